"""lift_splat in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


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
    """See :func:`fsdbev.layers.lift_splat`; gradients come from autograd.

    Letters: S weight sets, V views, P splats, D depth bins, C channels, h x w feature map,
    Y x X BEV grid, K frustum points kept.
    """
    _check_lift_splat(
        weights, foreground, context, undo_image_aug, image2bev, view, output, num_outputs, count
    )
    dtype = torch.promote_types(torch.promote_types(weights.dtype, context.dtype), torch.float32)
    weights, context = weights.to(dtype), context.to(dtype)
    foreground = foreground.to(dtype)
    num_sets, _, num_bins, height, width = weights.shape
    num_cells = count[0] * count[1]

    device = weights.device
    u = _pixel_centers(width, image_size[1], device).repeat(height)
    v = _pixel_centers(height, image_size[0], device).repeat_interleave(width)
    depth = depth_start + depth_step * torch.arange(num_bins, dtype=torch.float64, device=device)

    kept = (weights >= depth_threshold) & (foreground >= foreground_threshold)[:, :, None]
    kept = kept.detach().flatten(3)
    weights, context = weights.flatten(3), context.flatten(2)
    channels = context.shape[1]
    bev = weights.new_zeros(num_sets * num_outputs * num_cells, channels)
    for splat, (this_view, this_output) in enumerate(zip(view.tolist(), output.tolist())):
        for set_index in range(num_sets):
            bins, pixels = kept[set_index, this_view].nonzero(as_tuple=True)
            points = _frustum_points(
                u[pixels], v[pixels], depth[bins], undo_image_aug[splat], image2bev[splat]
            )
            cells, inside = _cells(points, lower, size, count)
            bins, pixels = bins[inside], pixels[inside]
            rows = (set_index * num_outputs + this_output) * num_cells + cells
            values = (
                weights[set_index, this_view, bins, pixels, None] * context[this_view].T[pixels]
            )
            bev.index_add_(0, rows, values)
    bev = bev.reshape(num_sets, num_outputs, count[1], count[0], channels)
    return bev.permute(0, 1, 4, 2, 3).contiguous()


def _pixel_centers(features: int, pixels: int, device: torch.device) -> Tensor:
    """(features,) float64 network image coordinates of the feature columns (or rows)."""
    step = (pixels - 1) / (features - 1) if features > 1 else 0.0
    return torch.arange(features, dtype=torch.float64, device=device) * step


def _frustum_points(
    u: Tensor, v: Tensor, depth: Tensor, undo_image_aug: Tensor, image2bev: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(K,) network image coordinates and depths -> (K,) x, y, z of the BEV frame, float64."""
    undo, a2b = undo_image_aug.double(), image2bev.double()

    def affine(matrix: Tensor, row: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        m = matrix[row]
        return m[0] * a + m[1] * b + m[2] * c + m[3]

    u, v, depth = (affine(undo, row, u, v, depth) for row in range(3))
    x, y, z = (affine(a2b, row, u * depth, v * depth, depth) for row in range(3))
    return x, y, z


def _cells(
    points: tuple[Tensor, Tensor, Tensor],
    lower: tuple[float, float, float],
    size: tuple[float, float, float],
    count: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """Flat cell (y * X + x) of the points inside the grid, and the (K,) mask of those inside."""
    scaled = [(p - low) / step for p, low, step in zip(points, lower, size)]
    inside = torch.ones_like(scaled[0], dtype=torch.bool)
    for axis, number in zip(scaled, count):
        inside &= (axis > -1) & (axis < number)  # truncation toward zero: -0.9 is cell 0
    x, y = (axis[inside].trunc().long() for axis in scaled[:2])
    return y * count[0] + x, inside


def _check_lift_splat(
    weights: Tensor,
    foreground: Tensor,
    context: Tensor,
    undo_image_aug: Tensor,
    image2bev: Tensor,
    view: Tensor,
    output: Tensor,
    num_outputs: int,
    count: tuple[int, int, int],
) -> None:
    if weights.dim() != 5:
        raise ValueError(f"weights must be (S, V, D, h, w), got {tuple(weights.shape)}")
    num_sets, num_views, _, height, width = weights.shape
    num_splats = view.shape[0] if view.dim() == 1 else -1
    channels = context.shape[1] if context.dim() == 4 else -1
    expected = {
        "foreground": (foreground, (num_sets, num_views, height, width)),
        "context": (context, (num_views, channels, height, width)),
        "undo_image_aug": (undo_image_aug, (num_splats, 4, 4)),
        "image2bev": (image2bev, (num_splats, 4, 4)),
        "view": (view, (num_splats,)),
        "output": (output, (num_splats,)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name} must be {shape} beside weights {tuple(weights.shape)} and "
                f"view {tuple(view.shape)}, got {tuple(tensor.shape)}"
            )
        if tensor.device != weights.device:
            raise ValueError(f"{name} is on {tensor.device}, weights on {weights.device}")
        is_index = name in ("view", "output")
        if tensor.dtype != torch.int64 if is_index else not tensor.is_floating_point():
            wanted = "int64" if is_index else "floating point"
            raise ValueError(f"{name} must be {wanted}, got {tensor.dtype}")
    if len(count) != 3 or count[2] != 1 or min(count) < 1:
        raise ValueError(f"count must be (X, Y, 1) with positive X and Y, got {tuple(count)}")
    for name, index, limit in (("view", view, num_views), ("output", output, num_outputs)):
        if index.numel() and not 0 <= index.min() <= index.max() < limit:
            low, high = index.min().item(), index.max().item()
            raise ValueError(f"{name} must be in 0 .. {limit - 1}, got {low} .. {high}")
