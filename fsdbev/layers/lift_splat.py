"""Lift, mask, splat: depth-weighted image features summed into a BEV grid (SPEC.md section 6).

Shapes: S weight sets, V views (images), P splats, D depth bins, C context channels, h x w feature
map, Z x Y x X BEV grid (Z is 1), B outputs (samples).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._extension import EXTENSION_BUILT, has_kernels
from .reference.lift_splat import (
    frustum_cells_reference,
    lift_splat_reference,
    splat_cells_reference,
)


@dataclass(frozen=True)
class Frustum:
    """The points of a camera frustum, and the BEV grid that they fall into.

    Frustum point (k, i, j) lies in the network image at ``u = j (W-1)/(w-1)``,
    ``v = i (H-1)/(h-1)`` and depth ``depth_start + k * depth_step`` metres. A point of the BEV
    frame lies in cell ``trunc((p - lower) / size)``, toward zero, so that one up to one cell below
    ``lower`` lands in cell 0; points outside the grid have no cell.

    Attributes:
        image_size: (H, W) of the network image, pixels.
        depth_start: depth of bin 0, metres.
        depth_step: metres between bins.
        lower: lower corner (x, y, z) of the grid, metres.
        size: size (x, y, z) of a cell, metres.
        count: number of cells (X, Y, Z); Z must be 1.
    """

    image_size: tuple[int, int]
    depth_start: float
    depth_step: float
    lower: tuple[float, float, float]
    size: tuple[float, float, float]
    count: tuple[int, int, int]

    def arguments(self) -> tuple:
        """The attributes in the order in which the operators take them."""
        depths = (self.depth_start, self.depth_step)
        return (self.image_size, *depths, self.lower, self.size, self.count)


def lift_splat(
    weights: Tensor,
    foreground: Tensor,
    context: Tensor,
    *,
    undo_image_aug: Tensor,
    image2bev: Tensor,
    view: Tensor,
    output: Tensor,
    num_outputs: int,
    frustum: Frustum,
    depth_threshold: float,
    foreground_threshold: float,
) -> Tensor:
    """Sums ``weight * context`` of every frustum point that takes part into its BEV cell.

    A point takes part in a weight set if its weight there is at least ``depth_threshold`` and the
    foreground of its pixel there is at least ``foreground_threshold``. ``undo_image_aug`` takes its
    (u, v, depth) to the original image, ``image2bev`` takes (u depth, v depth, depth) of that to
    metres of the BEV frame. Splat p sends the features of ``view[p]`` through ``image2bev[p]`` to
    ``output[p]``; a view's points are lifted once for all of its splats and weight sets.

    Geometry is computed in float64. Sums are float32 (float64 for float64 input), on the CPU in an
    order that does not depend on the number of threads. On a CUDA device the forward sums are
    atomic, unless ``torch.use_deterministic_algorithms(True)`` asks for a fixed order; gradients
    always have one.

    Args:
        weights: (S, V, D, h, w) weight of every frustum point, e.g. student's and teacher's depth
            probability.
        foreground: (S, V, h, w) foreground probability of every pixel; takes no gradient.
        context: (V, C, h, w) image features, shared by the weight sets.
        undo_image_aug: (V, 4, 4) network image -> original image; takes no gradient.
        image2bev: (P, 4, 4) original image, depth-scaled -> BEV frame, metres; takes no gradient.
        view: (P,) int64, 0 .. V - 1.
        output: (P,) int64, 0 .. num_outputs - 1.
        num_outputs: B.
        frustum: the points and the grid.
        depth_threshold: smallest weight that takes part.
        foreground_threshold: smallest foreground that takes part.

    Returns:
        (S, B, C, Y, X) contiguous, float32 (float64 if any of weights and context is).

    Raises:
        ValueError: shapes, dtypes, devices or indices do not fit together. An index out of range
            on a CUDA device stops the kernel instead.
    """
    arguments = (weights, foreground, context, undo_image_aug, image2bev, view, output, num_outputs)
    arguments += (*frustum.arguments(), depth_threshold, foreground_threshold)
    if has_kernels(weights.device):
        return torch.ops.fsdbev.lift_splat(*arguments)
    return lift_splat_reference(*arguments)


def frustum_cells(
    *,
    undo_image_aug: Tensor,
    image2bev: Tensor,
    view: Tensor,
    num_bins: int,
    feature_size: tuple[int, int],
    frustum: Frustum,
) -> Tensor:
    """The BEV cell of every frustum point, for :func:`splat_cells`: compute once where cameras and
    augmentation do not change.

    Args:
        undo_image_aug: (V, 4, 4), as in :func:`lift_splat`.
        image2bev: (P, 4, 4), likewise.
        view: (P,) int64.
        num_bins: D.
        feature_size: (h, w).
        frustum: the points and the grid.

    Returns:
        (P, D, h, w) int32 cells ``y * X + x``, -1 outside the grid.

    Raises:
        ValueError: shapes, dtypes, devices or indices do not fit together.
    """
    arguments = (undo_image_aug, image2bev, view, num_bins, feature_size, *frustum.arguments())
    if has_kernels(view.device):
        return torch.ops.fsdbev.frustum_cells(*arguments)
    return frustum_cells_reference(*arguments)


def splat_cells(
    weights: Tensor,
    foreground: Tensor,
    context: Tensor,
    cells: Tensor,
    *,
    view: Tensor,
    output: Tensor,
    num_outputs: int,
    grid_size: tuple[int, int],
    depth_threshold: float,
    foreground_threshold: float,
) -> Tensor:
    """:func:`lift_splat` with cells known beforehand, for static rigs and for export.

    Args:
        cells: (P, D, h, w) int32 from :func:`frustum_cells`: ``y * X + x``, -1 for none.
        grid_size: (Y, X).

    The other arguments, the result and the errors are those of :func:`lift_splat`; a cell outside
    the grid is an error too, where a point that takes part lies in it.
    """
    arguments = (weights, foreground, context, cells, view, output, num_outputs)
    arguments += (grid_size, depth_threshold, foreground_threshold)
    if has_kernels(weights.device):
        return torch.ops.fsdbev.splat_cells(*arguments)
    return splat_cells_reference(*arguments)


def _new_bev(weights, context, num_outputs, grid_size):
    """An empty result; the type of the sums is that of csrc/lift_splat.h."""
    is_double = torch.float64 in (weights.dtype, context.dtype)
    shape = (weights.shape[0], num_outputs, context.shape[1], *grid_size)
    return context.new_empty(shape, dtype=torch.float64 if is_double else torch.float32)


def _fake_lift_splat(
    weights, foreground, context, undo, image2bev, view, output, num_outputs, *rest
):
    count = rest[5]
    return _new_bev(weights, context, num_outputs, (count[1], count[0]))


def _fake_splat_cells(
    weights, foreground, context, cells, view, output, num_outputs, grid_size, *rest
):
    return _new_bev(weights, context, num_outputs, grid_size)


def _fake_frustum_cells(undo, image2bev, view, num_bins, feature_size, *frustum):
    return view.new_empty((view.shape[0], num_bins, *feature_size), dtype=torch.int32)


def _fake_backward(grad, weights, foreground, context, *rest):
    like = {"memory_format": torch.contiguous_format}
    return torch.empty_like(weights, **like), torch.empty_like(context, **like)


def _register(name: str, tensors: int, fake) -> None:
    """Registers what PyTorch needs beside the kernels of an operator whose first arguments are
    ``tensors`` tensors, of which it derives by the first and the third, and then ``num_outputs``.
    """

    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:tensors])
        ctx.settings = inputs[tensors + 1 :]

    def backward(ctx, grad):
        operator = getattr(torch.ops.fsdbev, f"{name}_backward")
        grad_weights, grad_context = operator(grad, *ctx.saved_tensors, *ctx.settings)
        without = [None] * (tensors - 3 + 1 + len(ctx.settings))
        return grad_weights, None, grad_context, *without

    torch.library.register_fake(f"fsdbev::{name}", fake)
    torch.library.register_fake(f"fsdbev::{name}_backward", _fake_backward)
    torch.library.register_autograd(f"fsdbev::{name}", backward, setup_context=setup_context)


if EXTENSION_BUILT:
    _register("lift_splat", 7, _fake_lift_splat)
    _register("splat_cells", 6, _fake_splat_cells)
    torch.library.register_fake("fsdbev::frustum_cells", _fake_frustum_cells)
