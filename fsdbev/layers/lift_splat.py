"""Lift, mask, splat: sums depth-weighted image features into a BEV grid.

Lift, Splat, Shoot (arXiv:2008.05711) with masks (docs/model.md, "View transform").

Shapes: S weight sets, V views (images), P splats (pairs of a view and an output), D depth bins,
C context channels, (h, w) feature map, (Z, Y, X) BEV grid with Z = 1, B outputs (samples).
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
    """Points of a camera frustum and the BEV grid that they are splat into.

    Frustum point (k, i, j) has network image coordinates ``u = j (W-1)/(w-1)``,
    ``v = i (H-1)/(h-1)`` and depth ``depth_start + k * depth_step`` metres. The cell of a point in
    the BEV frame is ``trunc((p - lower) / size)``, truncated toward zero as in the release: a point
    up to one cell below ``lower`` falls into cell 0. Points outside the grid have no cell.

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
        """Returns the attributes in the order of the operators' arguments."""
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
    """Adds ``weight * context`` of every frustum point above the thresholds to its BEV cell.

    A point is used in a weight set if its weight is at least ``depth_threshold`` and the foreground
    probability of its pixel at least ``foreground_threshold``, both in that set.
    ``undo_image_aug`` transforms its (u, v, depth) to the original image, and ``image2bev``
    transforms (u depth, v depth, depth) of the original image to metres in the BEV frame. Splat p
    sends the features of ``view[p]`` through ``image2bev[p]`` to ``output[p]``. A view is lifted
    once for all of its splats and weight sets.

    Geometry is float64, so that points near a cell border fall into the same cell on every device.
    Sums are float32 (float64 for float64 input). On the CPU their order does not depend on the
    number of threads. On CUDA the forward sums are atomic unless
    ``torch.use_deterministic_algorithms(True)`` is set; gradients always have a fixed order.

    Args:
        weights: (S, V, D, h, w) weight of every frustum point, such as the depth probability of
            student and teacher.
        foreground: (S, V, h, w) foreground probability of every pixel, without gradient.
        context: (V, C, h, w) image features, shared by the weight sets.
        undo_image_aug: (V, 4, 4) network image -> original image, without gradient.
        image2bev: (P, 4, 4) original image, scaled by depth -> BEV frame in metres, without
            gradient.
        view: (P,) int64 view of each splat, 0 .. V - 1.
        output: (P,) int64 output of each splat, 0 .. num_outputs - 1.
        num_outputs: B.
        frustum: the frustum points and the BEV grid.
        depth_threshold: smallest weight of a used point.
        foreground_threshold: smallest foreground probability of a used point.

    Returns:
        (S, B, C, Y, X) contiguous, float32 (float64 if weights or context are).

    Raises:
        ValueError: shapes, dtypes, devices or indices are inconsistent. An index out of range on a
            CUDA device stops the kernel instead.
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
    """Computes the BEV cell of every frustum point, the input of :func:`splat_cells`.

    The cells can be reused as long as calibration and augmentation do not change.

    Args:
        undo_image_aug: (V, 4, 4), as in :func:`lift_splat`.
        image2bev: (P, 4, 4), as in :func:`lift_splat`.
        view: (P,) int64 view of each splat.
        num_bins: D.
        feature_size: (h, w).
        frustum: the frustum points and the BEV grid.

    Returns:
        (P, D, h, w) int32 cells ``y * X + x``; -1 for points outside the grid.

    Raises:
        ValueError: shapes, dtypes, devices or indices are inconsistent.
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
    """Computes :func:`lift_splat` with precomputed cells, for static rigs and for export.

    Arguments not listed are those of :func:`lift_splat`.

    Args:
        cells: (P, D, h, w) int32 from :func:`frustum_cells`: ``y * X + x``, or -1.
        grid_size: (Y, X).

    Returns:
        (S, B, C, Y, X), see :func:`lift_splat`.

    Raises:
        ValueError: as :func:`lift_splat`, or the cell of a used point is outside the grid.
    """
    arguments = (weights, foreground, context, cells, view, output, num_outputs)
    arguments += (grid_size, depth_threshold, foreground_threshold)
    if has_kernels(weights.device):
        return torch.ops.fsdbev.splat_cells(*arguments)
    return splat_cells_reference(*arguments)


# The fake functions below replace the kernels while torch.compile and torch.export trace tensors
# without data. They return results of the same shape, dtype and memory layout.
def _new_bev(weights, context, num_outputs, grid_size):
    """Returns an empty result; its dtype follows the rule in csrc/lift_splat.h."""
    is_double = torch.float64 in (weights.dtype, context.dtype)
    shape = (weights.shape[0], num_outputs, context.shape[1], *grid_size)
    return context.new_empty(shape, dtype=torch.float64 if is_double else torch.float32)


def _fake_lift_splat(
    weights, foreground, context, undo, image2bev, view, output, num_outputs, *rest
):
    # rest begins with Frustum.arguments(), whose sixth and last entry is count.
    count = rest[5]
    return _new_bev(weights, context, num_outputs, (count[1], count[0]))


def _fake_splat_cells(
    weights, foreground, context, cells, view, output, num_outputs, grid_size, *rest
):
    return _new_bev(weights, context, num_outputs, grid_size)


def _fake_frustum_cells(undo, image2bev, view, num_bins, feature_size, *frustum):
    return view.new_empty((view.shape[0], num_bins, *feature_size), dtype=torch.int32)


def _fake_backward(grad, weights, foreground, context, *rest):
    # The kernels allocate contiguous gradients, whatever the strides of the inputs.
    like = {"memory_format": torch.contiguous_format}
    return torch.empty_like(weights, **like), torch.empty_like(context, **like)


def _register(name: str, tensors: int, fake) -> None:
    """Registers shape inference and autograd of an operator.

    Args:
        name: name of the operator. Its gradient is the operator ``{name}_backward``.
        tensors: number of leading tensor arguments, followed by ``num_outputs``. The first
            (weights) and the third (context) have gradients.
        fake: function of the same arguments that returns an empty result.
    """

    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:tensors])
        # Without num_outputs, which the backward operator reads from the shape of the gradient.
        ctx.settings = inputs[tensors + 1 :]

    def backward(ctx, grad):
        operator = getattr(torch.ops.fsdbev, f"{name}_backward")
        grad_weights, grad_context = operator(grad, *ctx.saved_tensors, *ctx.settings)
        # For the tensors after context, for num_outputs and for the settings.
        no_gradients = [None] * (tensors - 3 + 1 + len(ctx.settings))
        return grad_weights, None, grad_context, *no_gradients

    torch.library.register_fake(f"fsdbev::{name}", fake)
    torch.library.register_fake(f"fsdbev::{name}_backward", _fake_backward)
    torch.library.register_autograd(f"fsdbev::{name}", backward, setup_context=setup_context)


# torch.ops.fsdbev has no operators to register for without the extension.
if EXTENSION_BUILT:
    _register("lift_splat", 7, _fake_lift_splat)
    _register("splat_cells", 6, _fake_splat_cells)
    torch.library.register_fake("fsdbev::frustum_cells", _fake_frustum_cells)
