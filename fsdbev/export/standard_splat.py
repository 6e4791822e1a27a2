"""``fsdbev::splat_cells`` in standard operators, for runtimes without the custom operators.

Shapes: S weight sets, V views, P splats, D depth bins, C channels, h x w feature map, B outputs,
Y x X BEV grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fsdbev.layers import passes_thresholds


def splat_cells_in_standard_operators(
    weights: Tensor,
    foreground: Tensor,
    context: Tensor,
    cells: Tensor,
    view: Tensor,
    output: Tensor,
    num_outputs: int,
    grid_size: tuple[int, int],
    depth_threshold: float,
    foreground_threshold: float,
) -> Tensor:
    """Sums weighted features into BEV maps, with the arguments of ``fsdbev::splat_cells``.

    Sums may have another order than in the operator. Arguments are not checked.

    Args:
        weights: (S, V, D, h, w) depth weights.
        foreground: (S, V, h, w) foreground probability.
        context: (V, C, h, w) features.
        cells: (P, D, h, w) int32 BEV cell of each frustum point, -1 for points off the grid.
        view: (P,) view of each splat.
        output: (P,) map of each splat.
        num_outputs: B.
        grid_size: (Y, X).
        depth_threshold: least depth weight of a point.
        foreground_threshold: least foreground probability of a pixel.

    Returns:
        (S, B, C, Y, X) BEV maps.
    """
    num_sets, _, num_bins = weights.shape[:3]
    channels, num_cells = context.shape[1], grid_size[0] * grid_size[1]
    num_rows = num_sets * num_outputs * num_cells
    # Masked points add 0 instead of being removed, so that all shapes are fixed.
    kept = passes_thresholds(weights, foreground, depth_threshold, foreground_threshold)
    weights = torch.where(kept, weights, 0.0).flatten(3)
    features = context.flatten(2).mT
    first_of_set = torch.arange(0, num_rows, num_outputs * num_cells, device=weights.device)
    first_of_set = first_of_set.view(num_sets, 1, 1)

    # Points off the grid go to one extra row, which is cut off at the end.
    bev = weights.new_zeros(num_rows + 1, channels)
    # One splat at a time limits memory to the products of one splat, (S, D, h, w, C).
    for splat in range(cells.shape[0]):
        index = view[splat : splat + 1]
        splat_weights = weights.index_select(1, index).squeeze(1)
        values = splat_weights[..., None] * features.index_select(0, index)
        cell = cells[splat].flatten(1).long()
        row = first_of_set + output[splat] * num_cells + cell
        row = torch.where(cell >= 0, row, num_rows)
        bev = bev.index_put([row.flatten()], values.view(-1, channels), accumulate=True)
    bev = bev[:num_rows].view(num_sets, num_outputs, num_cells, channels)
    return bev.mT.unflatten(3, grid_size).contiguous()
