"""Reference implementation of rotated IoU and non-maximum suppression in plain PyTorch.

Shapes: G groups, M and K boxes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .checks import check_not_negative, check_tensors

#: Overlaps below this fraction of the sum of both areas count as rounding errors, not as overlap.
_ROUNDING = 1e-12


def rotated_iou_reference(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """See :func:`fsdbev.layers.rotated_iou`.

    The overlap is the area of box a clipped to box b. In the axes of b this is the line integral of
    ``-clamp(y, -w/2, w/2) dx`` along the outline of a (Green's theorem), with x clipped to
    ``[-l/2, l/2]``: a sum of piecewise linear functions over the four edges of a. It is exact for
    touching and for equal boxes.
    """
    _check_boxes(boxes_a, "boxes_a", "(..., M, 5)", boxes_a.dim() >= 2)
    _check_boxes(boxes_b, "boxes_b", "(..., K, 5)", boxes_b.dim() >= 2)
    if boxes_a.shape[:-2] != boxes_b.shape[:-2]:
        raise ValueError(
            f"boxes_a and boxes_b must agree but for their number, got {tuple(boxes_a.shape)} and "
            f"{tuple(boxes_b.shape)}"
        )
    a, b = boxes_a.double()[..., :, None, :], boxes_b.double()[..., None, :, :]
    half_x, half_y = b[..., 2] / 2, b[..., 3] / 2
    xs, ys = _corners_in(a, b)
    overlap = -sum(
        _edge_integral(xs[i], ys[i], xs[i - 3], ys[i - 3], half_x, half_y) for i in range(4)
    )
    areas = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3]
    overlap = torch.where(overlap > _ROUNDING * areas, overlap, 0.0)
    # Rounding may put the overlap of equal boxes slightly above their area.
    iou = (overlap / (areas - overlap)).clamp(max=1.0)
    iou = torch.where(_is_valid(a) & _is_valid(b), iou, 0.0)
    return iou.to(torch.promote_types(boxes_a.dtype, torch.float32))


def _is_valid(boxes: Tensor) -> Tensor:
    """Returns which (..., 5) float64 boxes are valid, (...) bool."""
    area = boxes[..., 2] * boxes[..., 3]
    positive = (boxes[..., 2:4] > 0).all(dim=-1) & (area > 0)
    return positive & boxes.isfinite().all(dim=-1) & area.isfinite()


def _corners_in(a: Tensor, b: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Returns x and y of the four corners of a in the axes of b, counter-clockwise."""
    dx, dy = a[..., 0] - b[..., 0], a[..., 1] - b[..., 1]
    cos_a, sin_a = a[..., 4].cos(), a[..., 4].sin()
    cos_b, sin_b = b[..., 4].cos(), b[..., 4].sin()
    x, y = cos_b * dx + sin_b * dy, cos_b * dy - sin_b * dx
    cos, sin = cos_a * cos_b + sin_a * sin_b, sin_a * cos_b - cos_a * sin_b
    signs = ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5))
    local = [(i * a[..., 2], j * a[..., 3]) for i, j in signs]
    return [x + cos * p - sin * q for p, q in local], [y + sin * p + cos * q for p, q in local]


def _edge_integral(
    x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, half_x: Tensor, half_y: Tensor
) -> Tensor:
    """Integrates clamp(y, -half_y, half_y) dx from (x0, y0) to (x1, y1), x clipped to +-half_x."""

    def crossing(start: Tensor, stop: Tensor, level: Tensor) -> Tensor:
        """Returns the fraction of the edge, 0 .. 1, at which the coordinate passes ``level``."""
        # With a run of 0 the coordinate is constant, and every fraction gives the same point.
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


def grouped_nms_reference(
    boxes: Tensor,
    scores: Tensor,
    thresholds: Tensor,
    is_circle: Tensor,
    max_input: int,
    max_output: int,
) -> tuple[Tensor, Tensor]:
    """See :func:`fsdbev.layers.grouped_nms`. Loops over groups and compares all pairs of boxes."""
    _check_nms(boxes, scores, thresholds, is_circle, max_input, max_output)
    keep = torch.full((len(boxes), max_output), -1, dtype=torch.int64, device=boxes.device)
    num_kept = keep.new_zeros(len(boxes))
    for g, (threshold, circle) in enumerate(zip(thresholds.double(), is_circle.tolist())):
        slots = (scores[g] > -math.inf).nonzero()[:, 0]  # false for NaN
        # Stable, so that equal scores are ordered by index, as in the kernels.
        order = scores[g, slots].argsort(descending=True, stable=True)[:max_input]
        candidates = boxes[g, slots[order]].double()
        suppresses = (
            _are_near(candidates, threshold) if circle else _iou_above(candidates, threshold)
        )
        kept = _greedy(suppresses)[:max_output]
        keep[g, : len(kept)] = slots[order[kept]]
        num_kept[g] = len(kept)
    return keep, num_kept


def _are_near(boxes: Tensor, squared_distance: Tensor) -> Tensor:
    """Returns (M, M) whether two centers of (M, 5) boxes are within the squared distance."""
    centers = boxes[:, :2]
    finite = centers.isfinite().all(dim=-1)
    offsets = centers[:, None] - centers[None]
    return (offsets.square().sum(dim=-1) <= squared_distance) & finite & finite[:, None]


def _iou_above(boxes: Tensor, iou_threshold: Tensor) -> Tensor:
    """Returns (M, M) whether the IoU of two of (M, 5) boxes exceeds the threshold."""
    valid = _is_valid(boxes)
    return (rotated_iou_reference(boxes, boxes) > iou_threshold) & valid & valid[:, None]


def _greedy(suppresses: Tensor) -> Tensor:
    """Returns the int64 indices of kept boxes; (M, M) ``suppresses`` is sorted best box first."""
    keep: list[int] = []
    active = torch.ones(len(suppresses), dtype=torch.bool, device=suppresses.device)
    for i, row in enumerate(suppresses):
        if active[i]:
            keep.append(i)
            active &= ~row
    return torch.tensor(keep, dtype=torch.int64, device=suppresses.device)


def _check_boxes(boxes: Tensor, name: str, shape: str, has_dimensions: bool) -> None:
    if not has_dimensions or boxes.shape[-1] != 5:
        raise ValueError(f"{name} must be {shape} of x, y, l, w, yaw, got {tuple(boxes.shape)}")
    if not boxes.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {boxes.dtype}")


def _check_nms(
    boxes: Tensor,
    scores: Tensor,
    thresholds: Tensor,
    is_circle: Tensor,
    max_input: int,
    max_output: int,
) -> None:
    _check_boxes(boxes, "boxes", "(G, M, 5)", boxes.dim() == 3)
    check_tensors(
        {
            "boxes": (boxes, boxes.shape, None),
            "scores": (scores, boxes.shape[:2], None),
            "thresholds": (thresholds, boxes.shape[:1], None),
            "is_circle": (is_circle, boxes.shape[:1], torch.bool),
        }
    )
    check_not_negative(max_input=max_input, max_output=max_output)
