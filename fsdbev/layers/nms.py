"""Rotated IoU and non-maximum suppression in BEV.

Shapes: G groups (each on its own: a task of a sample), M (and K) boxes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ._extension import EXTENSION_BUILT, has_kernels
from .reference.nms import grouped_nms_reference, rotated_iou_reference


def rotated_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Intersection over union of every pair of rotated rectangles.

    Args:
        boxes_a: (..., M, 5) x, y, l, w (metres, length along the heading), yaw (rad).
        boxes_b: (..., K, 5) likewise, with the same leading dimensions.

    Returns:
        (..., M, K) float32 (float64 for float64 ``boxes_a``), computed in float64, 0 .. 1. A box
        whose size is not positive, or with a value that is not finite, or whose area is 0 or
        infinite in float64, has IoU 0 with every box, itself too. No gradient.

    Raises:
        ValueError: shapes, dtypes or devices are not as stated.
    """
    boxes_a, boxes_b = boxes_a.detach(), boxes_b.detach()
    if has_kernels(boxes_a.device):
        return torch.ops.fsdbev.rotated_iou(boxes_a, boxes_b)
    return rotated_iou_reference(boxes_a, boxes_b)


def grouped_nms(
    boxes: Tensor,
    scores: Tensor,
    thresholds: Tensor,
    is_circle: Tensor,
    max_input: int | None = None,
    max_output: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Greedy suppression in every group on its own: a box goes if a better one that stays
    suppresses it.

    In a rotated group it does so where their IoU is larger than the threshold; in a circle group
    where the squared distance of their centers is the threshold or less. Better is the higher
    score, and of equal scores the lower index. A slot whose score is NaN or -inf holds no box: so
    groups of different sizes fit one tensor. A box that :func:`rotated_iou` gives 0 for all, or in
    a circle group one whose center is not finite, is a box like others but neither suppresses nor
    is suppressed, whatever the threshold; a threshold of NaN suppresses nothing.

    All sizes are known beforehand, and nothing waits for a CUDA device.

    Args:
        boxes: (G, M, 5) x, y, l, w (metres, length along the heading), yaw (rad). Only x and y
            matter in circle groups.
        scores: (G, M).
        thresholds: (G,) IoU, or square metres; floating point.
        is_circle: (G,) bool.
        max_input: only so many best boxes of a group take part; None: all.
        max_output: at most so many of a group are kept; None: no limit, which is M.

    Returns:
        ``keep`` (G, max_output) int64 indices of the boxes kept, best first, then -1; ``num_kept``
        (G,) int64 how many.

    Raises:
        ValueError: shapes, dtypes or devices are not as stated, or a limit is negative.
    """
    max_input, max_output = (boxes.shape[1] if n is None else n for n in (max_input, max_output))
    nms = torch.ops.fsdbev.grouped_nms if has_kernels(boxes.device) else grouped_nms_reference
    return nms(boxes.detach(), scores.detach(), thresholds, is_circle, max_input, max_output)


def rotated_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_input: int | None = None,
    max_output: int | None = None,
) -> Tensor:
    """:func:`grouped_nms` of one group by IoU. The host waits for the number of boxes kept.

    Args:
        boxes: (M, 5) x, y, l, w, yaw.
        scores: (M,); NaN and -inf: no box.
        iou_threshold: 0 .. 1; larger overlaps are suppressed.
        max_input: only so many best boxes take part; None: all.
        max_output: keep at most so many; None: no limit.

    Returns:
        (K,) int64 indices of the boxes kept, best first.

    Raises:
        ValueError: shapes, dtypes or devices are not as stated, or a limit is negative.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 5:
        raise ValueError(f"boxes must be (M, 5), got {tuple(boxes.shape)}")
    return _one_group(boxes, scores, iou_threshold, False, max_input, max_output)


def circle_nms(
    centers: Tensor,
    scores: Tensor,
    squared_distance: float,
    max_input: int | None = None,
    max_output: int | None = None,
) -> Tensor:
    """:func:`grouped_nms` of one group by distance of centers. The host waits as in
    :func:`rotated_nms`.

    Args:
        centers: (M, 2) x, y.
        scores: (M,); NaN and -inf: no box.
        squared_distance: square metres; centers as near or nearer are suppressed.
        max_input: only so many best boxes take part; None: all.
        max_output: keep at most so many; None: no limit.

    Returns:
        (K,) int64 indices of the boxes kept, best first.

    Raises:
        ValueError: shapes, dtypes or devices are not as stated, or a limit is negative.
    """
    if centers.dim() != 2 or centers.shape[1] != 2:
        raise ValueError(f"centers must be (M, 2), got {tuple(centers.shape)}")
    boxes = F.pad(centers, (0, 3))
    return _one_group(boxes, scores, squared_distance, True, max_input, max_output)


def _one_group(
    boxes: Tensor,
    scores: Tensor,
    threshold: float,
    is_circle: bool,
    max_input: int | None,
    max_output: int | None,
) -> Tensor:
    thresholds = torch.full((1,), threshold, dtype=torch.float64, device=boxes.device)
    circles = torch.full((1,), is_circle, dtype=torch.bool, device=boxes.device)
    keep, _ = grouped_nms(boxes[None], scores[None], thresholds, circles, max_input, max_output)
    return keep[keep >= 0]


def _fake_iou(boxes_a, boxes_b):
    dtype = torch.promote_types(boxes_a.dtype, torch.float32)
    return boxes_a.new_empty((*boxes_a.shape[:-1], boxes_b.shape[-2]), dtype=dtype)


def _fake_nms(boxes, scores, thresholds, is_circle, max_input, max_output):
    groups = boxes.shape[0]
    keep = boxes.new_empty((groups, max_output), dtype=torch.int64)
    return keep, keep.new_empty((groups,))


if EXTENSION_BUILT:
    torch.library.register_fake("fsdbev::rotated_iou", _fake_iou)
    torch.library.register_fake("fsdbev::grouped_nms", _fake_nms)
