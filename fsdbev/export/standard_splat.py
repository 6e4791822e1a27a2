"""``fsdbev::splat_cells`` in standard operators, for runtimes that do not have ours.

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
    """What the operator computes, but for the order of its sums; checks nothing.

    All sizes are known beforehand: points that take no part add 0, and those off the grid go to a
    row of their own that is cut off. Splats follow one another, so that the products of one of them
    alone, (S, D, h, w, C), are in memory.
    """
    num_sets, _, num_bins = weights.shape[:3]
    channels, num_cells = context.shape[1], grid_size[0] * grid_size[1]
    num_rows = num_sets * num_outputs * num_cells
    kept = passes_thresholds(weights, foreground, depth_threshold, foreground_threshold)
    weights = torch.where(kept, weights, 0.0).flatten(3)
    features = context.flatten(2).mT
    first_of_set = torch.arange(0, num_rows, num_outputs * num_cells, device=weights.device)
    first_of_set = first_of_set.view(num_sets, 1, 1)

    bev = weights.new_zeros(num_rows + 1, channels)
    for splat in range(cells.shape[0]):
        its_view = view[splat : splat + 1]
        its_weights = weights.index_select(1, its_view).squeeze(1)
        values = its_weights[..., None] * features.index_select(0, its_view)
        cell = cells[splat].flatten(1).long()
        row = first_of_set + output[splat] * num_cells + cell
        row = torch.where(cell >= 0, row, num_rows)
        bev = bev.index_put([row.flatten()], values.view(-1, channels), accumulate=True)
    bev = bev[:num_rows].view(num_sets, num_outputs, num_cells, channels)
    return bev.mT.unflatten(3, grid_size).contiguous()
