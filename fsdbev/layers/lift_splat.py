"""Lift, mask, splat: depth-weighted image features summed into a BEV grid (SPEC.md section 6).

Letters: S weight sets, V views (images), P splats, D depth bins, C context channels, h x w feature
map, Z x Y x X BEV grid (Z is 1), B outputs (samples).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._extension import EXTENSION_BUILT, has_kernels
from .twins.lift_splat import lift_splat_reference


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
    image_size: tuple[int, int],
    depth_start: float,
    depth_step: float,
    lower: tuple[float, float, float],
    size: tuple[float, float, float],
    count: tuple[int, int, int],
    depth_threshold: float,
    foreground_threshold: float,
) -> Tensor:
    """Sums ``weight * context`` of every frustum point that takes part into its BEV cell.

    Frustum point (k, i, j) lies in the network image at ``u = j (W-1)/(w-1)``,
    ``v = i (H-1)/(h-1)`` and depth ``depth_start + k * depth_step`` metres. ``undo_image_aug``
    takes (u, v, depth) to the original image, ``image2bev`` takes (u depth, v depth, depth) of that
    to metres of the BEV frame. Its cell is ``trunc((p - lower) / size)``, toward zero, so that a
    point up to one cell below ``lower`` lands in cell 0; points outside the grid are dropped. It
    takes part in a weight set if its weight there is at least ``depth_threshold`` and the
    foreground of its pixel there is at least ``foreground_threshold``.

    Splat p sends the features of ``view[p]`` through its own matrices to ``output[p]``. Geometry is
    computed in float64 and sums are float32 (float64 for float64 input), in an order that does
    not depend on the number of threads. On a CUDA device the forward sums are atomic.

    Args:
        weights: (S, V, D, h, w) weight of every frustum point, e.g. student's and teacher's depth
            probability.
        foreground: (S, V, h, w) foreground probability of every pixel; takes no gradient.
        context: (V, C, h, w) image features, shared by the weight sets.
        undo_image_aug: (P, 4, 4) network image -> original image; takes no gradient.
        image2bev: (P, 4, 4) original image, depth-scaled -> BEV frame, metres; takes no gradient.
        view: (P,) int64, 0 .. V - 1.
        output: (P,) int64, 0 .. num_outputs - 1.
        num_outputs: B.
        image_size: (H, W) of the network image, pixels.
        depth_start: depth of bin 0, metres.
        depth_step: metres between bins.
        lower: lower corner (x, y, z) of the grid, metres.
        size: size (x, y, z) of a cell, metres.
        count: number of cells (X, Y, Z); Z must be 1.
        depth_threshold: smallest weight that takes part.
        foreground_threshold: smallest foreground that takes part.

    Returns:
        (S, B, C, Y, X) contiguous, float32 (float64 if any of weights and context is).

    Raises:
        ValueError: shapes, dtypes, devices or indices do not fit together.
    """
    arguments = (
        weights,
        foreground,
        context,
        undo_image_aug,
        image2bev,
        view,
        output,
        num_outputs,
        image_size,
        depth_start,
        depth_step,
        lower,
        size,
        count,
        depth_threshold,
        foreground_threshold,
    )
    if has_kernels(weights.device):
        return torch.ops.fsdbev.lift_splat(*arguments)
    return lift_splat_reference(*arguments)


def _output_dtype(weights: Tensor, context: Tensor) -> torch.dtype:
    is_double = torch.float64 in (weights.dtype, context.dtype)
    return torch.float64 if is_double else torch.float32


def _fake(weights, foreground, context, undo, image2bev, view, output, num_outputs, *rest):
    count = rest[5]
    shape = (weights.shape[0], num_outputs, context.shape[1], count[1], count[0])
    return context.new_empty(shape, dtype=_output_dtype(weights, context))


def _fake_backward(grad, weights, foreground, context, *rest):
    like = {"memory_format": torch.contiguous_format}
    return torch.empty_like(weights, **like), torch.empty_like(context, **like)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:7])
    ctx.settings = inputs[8:]


def _backward(ctx, grad):
    grad_weights, grad_context = torch.ops.fsdbev.lift_splat_backward(
        grad, *ctx.saved_tensors, *ctx.settings
    )
    return grad_weights, None, grad_context, *([None] * (4 + 1 + len(ctx.settings)))


if EXTENSION_BUILT:
    torch.library.register_fake("fsdbev::lift_splat", _fake)
    torch.library.register_fake("fsdbev::lift_splat_backward", _fake_backward)
    torch.library.register_autograd("fsdbev::lift_splat", _backward, setup_context=_setup_context)
