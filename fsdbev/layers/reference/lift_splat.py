"""Reference implementation of lift_splat, frustum_cells and splat_cells in plain PyTorch.

Shapes: S weight sets, V views, P splats, D depth bins, C channels, (h, w) feature map, (Y, X) BEV
grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import check_not_negative, check_range, check_tensors

#: Largest number of cells; their indices are int32.
_MAX_CELLS = 2**31 - 1


def lift_splat_reference(
    weights: Tensor,
    foreground: Tensor,
    context: Tensor,
    undo_image_aug: Tensor,
    image2bev: Tensor,
    view: Tensor,
    output: Tensor,
    num_outputs: int,
    image_size: tuple[int, int],
    depth_start: float,
    depth_step: float,
    lower: tuple[float, float, float],
    size: tuple[float, float, float],
    count: tuple[int, int, int],
    depth_threshold: float,
    foreground_threshold: float,
) -> Tensor:
    """See :func:`fsdbev.layers.lift_splat`. Gradients come from autograd."""
    _check_features(weights, foreground, context, view, output, num_outputs)
    _check_matrices(undo_image_aug, image2bev, view, weights.shape[1])
    num_bins, *feature_size = weights.shape[2:]
    cells = frustum_cells_reference(
        undo_image_aug, image2bev, view, num_bins, tuple(feature_size),
        image_size, depth_start, depth_step, lower, size, count,
    )  # fmt: skip
    return splat_cells_reference(
        weights, foreground, context, cells, view, output, num_outputs,
        (count[1], count[0]), depth_threshold, foreground_threshold,
    )  # fmt: skip


def frustum_cells_reference(
    undo_image_aug: Tensor,
    image2bev: Tensor,
    view: Tensor,
    num_bins: int,
    feature_size: tuple[int, int],
    image_size: tuple[int, int],
    depth_start: float,
    depth_step: float,
    lower: tuple[float, float, float],
    size: tuple[float, float, float],
    count: tuple[int, int, int],
) -> Tensor:
    """See :func:`fsdbev.layers.frustum_cells`."""
    _check_matrices(undo_image_aug, image2bev, view, undo_image_aug.shape[0])
    check_range("view", view, 0, undo_image_aug.shape[0])
    _check_sizes(num_bins, feature_size, count)
    device = view.device
    u = _pixel_centers(feature_size[1], image_size[1], device)
    v = _pixel_centers(feature_size[0], image_size[0], device)[:, None]
    depth = depth_start + depth_step * torch.arange(num_bins, dtype=torch.float64, device=device)
    lifted = _lift(undo_image_aug.double()[view], u, v, depth[:, None, None])
    points = [_affine(image2bev.double(), row, *lifted) for row in range(3)]
    scaled = [(p - low) / step for p, low, step in zip(points, lower, size)]
    inside = torch.ones(scaled[0].shape, dtype=torch.bool, device=device)
    for axis, number in zip(scaled, count):
        # Truncation toward zero as in the release: -0.9 is cell 0.
        inside = inside & (axis > -1) & (axis < number)
    # Points off the grid become 0 first: the cast of NaN or of values beyond int32 is undefined.
    column, row = (torch.where(inside, axis, 0.0).trunc().int() for axis in scaled[:2])
    return torch.where(inside, row * count[0] + column, -1)


def splat_cells_reference(
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
    """See :func:`fsdbev.layers.splat_cells`. Gradients come from autograd."""
    _check_features(weights, foreground, context, view, output, num_outputs)
    num_cells = grid_size[0] * grid_size[1]
    shape = (len(view), *weights.shape[2:])
    check_tensors({"weights": (weights, weights.shape, None), "cells": (cells, shape, torch.int32)})
    check_range("cells", cells, -1, num_cells)
    # Half-precision inputs are summed in float32, as in the kernels.
    dtype = torch.promote_types(torch.promote_types(weights.dtype, context.dtype), torch.float32)
    weights, context, foreground = (t.to(dtype) for t in (weights, context, foreground))
    kept = passes_thresholds(weights, foreground, depth_threshold, foreground_threshold)
    num_sets, channels = weights.shape[0], context.shape[1]
    bev = weights.new_zeros(num_sets * num_outputs * num_cells, channels)
    # A splat and weight set at a time, since all frustum features at once would need
    # (S, P, D, h, w, C) values.
    for splat, (this_view, this_output) in enumerate(zip(view.tolist(), output.tolist())):
        for index in range(num_sets):
            pooled = kept[index, this_view] & (cells[splat] >= 0)
            bins, i, j = pooled.nonzero(as_tuple=True)
            rows = (index * num_outputs + this_output) * num_cells + cells[splat, bins, i, j]
            values = weights[index, this_view, bins, i, j, None] * context[this_view, :, i, j].T
            bev.index_add_(0, rows, values)
    bev = bev.reshape(num_sets, num_outputs, *grid_size, channels)
    return bev.permute(0, 1, 4, 2, 3).contiguous()


def passes_thresholds(
    weights: Tensor, foreground: Tensor, depth_threshold: float, foreground_threshold: float
) -> Tensor:
    """Selects the frustum points to pool.

    Args:
        weights: (S, V, D, h, w) depth weights.
        foreground: (S, V, h, w) foreground probability.
        depth_threshold: smallest weight of a pooled point.
        foreground_threshold: smallest foreground probability of a pooled point.

    Returns:
        (S, V, D, h, w) bool.
    """
    return (weights >= depth_threshold) & (foreground >= foreground_threshold)[:, :, None]


def _pixel_centers(features: int, pixels: int, device: torch.device) -> Tensor:
    """Returns (features,) float64 network image coordinates of the feature columns or rows."""
    # A single row or column is at pixel 0, as in torch.linspace.
    step = (pixels - 1) / (features - 1) if features > 1 else 0.0
    return torch.arange(features, dtype=torch.float64, device=device) * step


def _lift(undo_image_aug: Tensor, u: Tensor, v: Tensor, depth: Tensor) -> tuple[Tensor, ...]:
    """Computes (u depth, v depth, depth) in the original image, each (P, D, h, w)."""
    u, v, depth = (_affine(undo_image_aug, row, u, v, depth) for row in range(3))
    return u * depth, v * depth, depth


def _affine(matrices: Tensor, row: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Computes one row of (P, 4, 4) matrices times the columns (a, b, c, 1)."""
    # In the kernels' order of operations, so that points near a border get the same cell.
    m = matrices[:, row, :, None, None, None]
    return m[:, 0] * a + m[:, 1] * b + m[:, 2] * c + m[:, 3]


def _check_features(
    weights: Tensor,
    foreground: Tensor,
    context: Tensor,
    view: Tensor,
    output: Tensor,
    num_outputs: int,
) -> None:
    if weights.dim() != 5:
        raise ValueError(f"weights must be (S, V, D, h, w), got {tuple(weights.shape)}")
    if view.dim() != 1:
        raise ValueError(f"view must be (P,), got {tuple(view.shape)}")
    num_sets, num_views, _, *size = weights.shape
    channels = context.shape[1] if context.dim() == 4 else -1
    check_tensors(
        {
            "weights": (weights, weights.shape, None),
            "foreground": (foreground, (num_sets, num_views, *size), None),
            "context": (context, (num_views, channels, *size), None),
            "view": (view, view.shape, torch.int64),
            "output": (output, view.shape, torch.int64),
        }
    )
    check_range("view", view, 0, num_views)
    check_range("output", output, 0, num_outputs)


def _check_matrices(
    undo_image_aug: Tensor, image2bev: Tensor, view: Tensor, num_views: int
) -> None:
    if view.dim() != 1:
        raise ValueError(f"view must be (P,), got {tuple(view.shape)}")
    check_tensors(
        {
            "view": (view, view.shape, torch.int64),
            "undo_image_aug": (undo_image_aug, (num_views, 4, 4), None),
            "image2bev": (image2bev, (len(view), 4, 4), None),
        }
    )


def _check_sizes(num_bins: int, feature_size: tuple[int, int], count: tuple[int, ...]) -> None:
    check_not_negative(num_bins=num_bins)
    if len(feature_size) != 2 or min(feature_size) < 0:
        raise ValueError(f"feature_size must be (h, w), got {tuple(feature_size)}")
    if len(count) != 3 or count[2] != 1 or min(count) < 1 or count[0] * count[1] > _MAX_CELLS:
        raise ValueError(
            f"count must be (X, Y, 1) with 1 to {_MAX_CELLS} cells, got {tuple(count)}"
        )
