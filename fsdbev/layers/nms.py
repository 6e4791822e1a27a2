"""Rotated IoU and non-maximum suppression in BEV.

Shapes: G groups with separate NMS (a task of a sample), M and K boxes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ._extension import EXTENSION_BUILT, has_kernels
from .reference.nms import grouped_nms_reference, rotated_iou_reference


def rotated_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Computes the intersection over union of every pair of rotated rectangles.

    Args:
        boxes_a: (..., M, 5) x, y, l, w (metres, length along the heading), yaw (rad).
        boxes_b: (..., K, 5) of the same layout and leading dimensions.

    Returns:
        (..., M, K) IoU in 0 .. 1, computed in float64, returned in float32 (float64 for float64
        ``boxes_a``), without gradient. Invalid boxes have IoU 0 with every box including
        themselves: boxes with a non-positive size, a non-finite value, or an area that is 0 or
        infinite in float64.

    Raises:
        ValueError: shapes, dtypes or devices are not as stated.
    """
    # Detached, since the operator has no gradient and a backward pass through it would be wrong.
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
    """Applies greedy NMS to each group.

    Drops a box if a kept box of its group with a higher score suppresses it. In a rotated group a
    box suppresses those with an IoU above the threshold. In a circle group it suppresses those
    whose squared distance between centers is at most the threshold. Equal scores are ordered by
    index. A score of NaN or -inf marks an empty slot, so that groups of different
    sizes fit one tensor. Invalid boxes (see :func:`rotated_iou`; in circle groups those with a
    non-finite center) neither suppress nor are suppressed. A threshold of NaN suppresses nothing.

    All sizes are fixed by the arguments, so nothing synchronises with a CUDA device.

    Args:
        boxes: (G, M, 5) x, y, l, w (metres, length along the heading), yaw (rad). Circle groups
            only use x and y.
        scores: (G, M).
        thresholds: (G,) floating point; IoU, or square metres for circle groups.
        is_circle: (G,) bool.
        max_input: number of best boxes of a group to consider; None for all.
        max_output: maximum number of kept boxes per group; None for M.

    Returns:
        ``keep`` (G, max_output) int64 indices of the kept boxes, best first, padded with -1, and
        ``num_kept`` (G,) int64.

    Raises:
        ValueError: shapes, dtypes or devices are not as stated, or a limit is negative.
    """
    max_input, max_output = (boxes.shape[1] if n is None else n for n in (max_input, max_output))
    # Detached for the same reason as in rotated_iou.
    nms = torch.ops.fsdbev.grouped_nms if has_kernels(boxes.device) else grouped_nms_reference
    return nms(boxes.detach(), scores.detach(), thresholds, is_circle, max_input, max_output)


def rotated_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_input: int | None = None,
    max_output: int | None = None,
) -> Tensor:
    """Applies NMS by rotated IoU to one group; see :func:`grouped_nms`.

    Synchronises with the device to read the number of kept boxes.

    Args:
        boxes: (M, 5) x, y, l, w (metres), yaw (rad).
        scores: (M,); NaN and -inf mark empty slots.
        iou_threshold: boxes with a larger IoU are suppressed, 0 .. 1.
        max_input: number of best boxes to consider; None for all.
        max_output: maximum number of kept boxes; None for no limit.

    Returns:
        (K,) int64 indices of the kept boxes, best first.

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
    """Applies NMS by distance of centers to one group; see :func:`grouped_nms`.

    Synchronises with the device to read the number of kept boxes.

    Args:
        centers: (M, 2) x, y, metres.
        scores: (M,); NaN and -inf mark empty slots.
        squared_distance: centers at this squared distance or less are suppressed, square metres.
        max_input: number of best boxes to consider; None for all.
        max_output: maximum number of kept boxes; None for no limit.

    Returns:
        (K,) int64 indices of the kept boxes, best first.

    Raises:
        ValueError: shapes, dtypes or devices are not as stated, or a limit is negative.
    """
    if centers.dim() != 2 or centers.shape[1] != 2:
        raise ValueError(f"centers must be (M, 2), got {tuple(centers.shape)}")
    # Circle groups ignore l, w and yaw, so zeros take their place.
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
    # float64, so that the threshold equals the given Python float.
    thresholds = torch.full((1,), threshold, dtype=torch.float64, device=boxes.device)
    circles = torch.full((1,), is_circle, dtype=torch.bool, device=boxes.device)
    keep, _ = grouped_nms(boxes[None], scores[None], thresholds, circles, max_input, max_output)
    return keep[keep >= 0]


def _fake_iou(boxes_a, boxes_b):
    # As in the kernels: float64 for float64 boxes_a, float32 for half precision too.
    dtype = torch.promote_types(boxes_a.dtype, torch.float32)
    return boxes_a.new_empty((*boxes_a.shape[:-1], boxes_b.shape[-2]), dtype=dtype)


def _fake_nms(boxes, scores, thresholds, is_circle, max_input, max_output):
    groups = boxes.shape[0]
    keep = boxes.new_empty((groups, max_output), dtype=torch.int64)
    return keep, keep.new_empty((groups,))


if EXTENSION_BUILT:
    torch.library.register_fake("fsdbev::rotated_iou", _fake_iou)
    torch.library.register_fake("fsdbev::grouped_nms", _fake_nms)
