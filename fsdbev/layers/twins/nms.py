"""Rotated IoU and non-maximum suppression in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

#: An overlap below this share of the two areas is rounding: the boxes do not overlap.
_ROUNDING = 1e-12


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
