"""The operators in plain PyTorch: what runs without the compiled extension, and the tests' oracle.

They take the arguments of the compiled operators (positionally) and give the same values.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: An overlap below this share of the two areas is rounding: the boxes do not overlap.
_ROUNDING = 1e-12


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


def rotated_iou_reference(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """See :func:`fsdbev.layers.rotated_iou`. Letters: M boxes a, K boxes b.

    The overlap is the area of box a clipped to box b. In b's own axes that is the line integral of
    ``-clamp(y, -w/2, w/2) dx`` along a's outline (Green's theorem), x clipped to ``[-l/2, l/2]``:
    the sum over a's four edges of a piecewise linear function, exact for touching and equal boxes.
    """
    for boxes in (boxes_a, boxes_b):
        _check_boxes(boxes, 5)
    a, b = boxes_a.double()[:, None], boxes_b.double()[None]
    half = b[..., 2:4] / 2
    xs, ys = _corners_in(a, b)
    overlap = torch.zeros(a.shape[0], b.shape[1], dtype=torch.float64, device=a.device)
    for i in range(4):
        overlap -= _edge_integral(xs[i], ys[i], xs[i - 3], ys[i - 3], half[..., 0], half[..., 1])
    areas = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3]
    overlap = torch.where(overlap > _ROUNDING * areas, overlap, 0.0)
    iou = overlap / (areas - overlap)
    proper = _is_proper(boxes_a)[:, None] & _is_proper(boxes_b)[None]
    return torch.where(proper, iou, 0.0).to(torch.promote_types(boxes_a.dtype, torch.float32))


def _is_proper(boxes: Tensor) -> Tensor:
    return boxes.isfinite().all(dim=-1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)


def _corners_in(a: Tensor, b: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """x and y of a's four corners, counter-clockwise, in b's own axes."""
    dx, dy = a[..., 0] - b[..., 0], a[..., 1] - b[..., 1]
    cos_b, sin_b = b[..., 4].cos(), b[..., 4].sin()
    x, y = cos_b * dx + sin_b * dy, cos_b * dy - sin_b * dx
    turn = a[..., 4] - b[..., 4]
    cos, sin = turn.cos(), turn.sin()
    signs = ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5))
    local = [(i * a[..., 2], j * a[..., 3]) for i, j in signs]
    return [x + cos * p - sin * q for p, q in local], [y + sin * p + cos * q for p, q in local]


def _edge_integral(
    x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, half_x: Tensor, half_y: Tensor
) -> Tensor:
    """Integral of clamp(y, -half_y, half_y) dx from (x0, y0) to (x1, y1), x clipped to +-half_x."""

    def crossing(start: Tensor, stop: Tensor, level: Tensor) -> Tensor:
        """Where along the edge the coordinate passes ``level``, in 0 .. 1."""
        run = stop - start
        return ((level - start) / torch.where(run == 0, 1.0, run)).clamp(0, 1)

    def at(start: Tensor, stop: Tensor, t: Tensor) -> Tensor:
        return start + (stop - start) * t

    enters, leaves = crossing(x0, x1, -half_x), crossing(x0, x1, half_x)
    first, last = torch.minimum(enters, leaves), torch.maximum(enters, leaves)
    xa, xb = at(x0, x1, first), at(x0, x1, last)
    xa, xb = (torch.minimum(torch.maximum(x, -half_x), half_x) for x in (xa, xb))
    ya, yb = at(y0, y1, first), at(y0, y1, last)

    below, above = crossing(ya, yb, -half_y), crossing(ya, yb, half_y)
    zero, one = torch.zeros_like(xa), torch.ones_like(xa)
    stops = (zero, torch.minimum(below, above), torch.maximum(below, above), one)
    heights = [torch.minimum(torch.maximum(at(ya, yb, t), -half_y), half_y) for t in stops]
    mean = zero
    for i in range(3):
        mean = mean + (stops[i + 1] - stops[i]) * (heights[i] + heights[i + 1]) / 2
    return (xb - xa) * mean


def rotated_nms_reference(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_input: int | None = None,
    max_output: int | None = None,
) -> Tensor:
    """See :func:`fsdbev.layers.rotated_nms`."""
    order = _by_score(scores, boxes, 5, max_input)
    candidates = boxes[order]
    keep = _greedy(rotated_iou_reference(candidates, candidates) > iou_threshold, max_output)
    return order[keep]


def circle_nms_reference(
    centers: Tensor,
    scores: Tensor,
    squared_distance: float,
    max_input: int | None = None,
    max_output: int | None = None,
) -> Tensor:
    """See :func:`fsdbev.layers.circle_nms`."""
    order = _by_score(scores, centers, 2, max_input)
    offsets = centers[order].double()[:, None] - centers[order].double()[None]
    keep = _greedy(offsets.square().sum(dim=-1) <= squared_distance, max_output)
    return order[keep]


def _check_boxes(boxes: Tensor, columns: int) -> None:
    if boxes.dim() != 2 or boxes.shape[1] != columns:
        raise ValueError(f"boxes must be (M, {columns}), got {tuple(boxes.shape)}")
    if not boxes.is_floating_point():
        raise ValueError(f"boxes must be floating point, got {boxes.dtype}")


def _by_score(scores: Tensor, boxes: Tensor, columns: int, max_input: int | None) -> Tensor:
    _check_boxes(boxes, columns)
    if scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"scores must be (M,) beside boxes {tuple(boxes.shape)}, got {tuple(scores.shape)}"
        )
    if max_input is not None and max_input < 0:
        raise ValueError(f"max_input must not be negative, got {max_input}")
    if scores.isnan().any():
        raise ValueError(f"score {scores.isnan().nonzero()[0].item()} is NaN; filter boxes before")
    return scores.argsort(descending=True, stable=True)[:max_input]


def _greedy(suppresses: Tensor, max_output: int | None) -> Tensor:
    """(M, M) bool, row by row from the best box -> int64 rows that stay."""
    if max_output is not None and max_output < 0:
        raise ValueError(f"max_output must not be negative, got {max_output}")
    suppressed = [False] * len(suppresses)
    keep: list[int] = []
    for i, row in enumerate(suppresses.tolist()):
        if max_output is not None and len(keep) >= max_output:
            break
        if not suppressed[i]:
            keep.append(i)
            suppressed = [a or b for a, b in zip(suppressed, row)]
    return torch.tensor(keep, dtype=torch.int64, device=suppresses.device)
