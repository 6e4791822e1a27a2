"""Rotated IoU and non-maximum suppression in BEV. Letters: M (and K) boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from ._extension import EXTENSION_BUILT, has_kernels
from .twins.nms import circle_nms_reference, rotated_iou_reference, rotated_nms_reference

_CPU = torch.device("cpu")


def rotated_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Intersection over union of every pair of rotated rectangles.

    Args:
        boxes_a: (M, 5) x, y, l, w (metres, length along the heading), yaw (rad).
        boxes_b: (K, 5) likewise.

    Returns:
        (M, K) float32 (float64 for float64 boxes), computed in float64. A box whose size is not
        positive, or with a value that is not finite, has IoU 0 with every box. No gradient.

    Raises:
        ValueError: shapes or dtypes are not as stated.
    """
    boxes_a, boxes_b = boxes_a.detach(), boxes_b.detach()
    if has_kernels(_CPU):
        return torch.ops.fsdbev.rotated_iou(boxes_a.cpu(), boxes_b.cpu()).to(boxes_a.device)
    return rotated_iou_reference(boxes_a, boxes_b)


def rotated_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_input: int | None = None,
    max_output: int | None = None,
) -> Tensor:
    """Greedy suppression: a box goes if a better one that stays overlaps it by more than
    ``iou_threshold``.

    Of equal scores the one with the lower index counts as better. Boxes without area never suppress
    nor are suppressed. Boxes on another device are moved to the CPU and the result back.

    Args:
        boxes: (M, 5) x, y, l, w, yaw.
        scores: (M,).
        iou_threshold: 0 .. 1.
        max_input: only this many best boxes take part; None: all.
        max_output: keep at most this many; None: no limit.

    Returns:
        (K,) int64 indices of the boxes kept, best first.

    Raises:
        ValueError: shapes are not as stated, a limit is negative, or a score is NaN.
    """
    if has_kernels(_CPU):
        keep = torch.ops.fsdbev.rotated_nms(
            boxes.detach().cpu(), scores.detach().cpu(), iou_threshold, max_input, max_output
        )
        return keep.to(boxes.device)
    return rotated_nms_reference(
        boxes.detach(), scores.detach(), iou_threshold, max_input, max_output
    )


def circle_nms(
    centers: Tensor,
    scores: Tensor,
    squared_distance: float,
    max_input: int | None = None,
    max_output: int | None = None,
) -> Tensor:
    """Greedy suppression by centre: a box goes if a better one that stays is as near as
    ``squared_distance`` (square metres) or nearer. Else as :func:`rotated_nms`.

    Args:
        centers: (M, 2) x, y. A centre that is not finite never suppresses nor is suppressed.
        scores: (M,).
        squared_distance: square metres.
        max_input: only this many best boxes take part; None: all.
        max_output: keep at most this many; None: no limit.

    Returns:
        (K,) int64 indices of the boxes kept, best first.

    Raises:
        ValueError: shapes are not as stated, a limit is negative, or a score is NaN.
    """
    if has_kernels(_CPU):
        keep = torch.ops.fsdbev.circle_nms(
            centers.detach().cpu(), scores.detach().cpu(), squared_distance, max_input, max_output
        )
        return keep.to(centers.device)
    return circle_nms_reference(
        centers.detach(), scores.detach(), squared_distance, max_input, max_output
    )


def _fake_iou(boxes_a, boxes_b):
    dtype = torch.promote_types(boxes_a.dtype, torch.float32)
    return boxes_a.new_empty((boxes_a.shape[0], boxes_b.shape[0]), dtype=dtype)


def _fake_nms(boxes, scores, threshold, max_input=None, max_output=None):
    number_kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty(number_kept, dtype=torch.int64)


if EXTENSION_BUILT:
    torch.library.register_fake("fsdbev::rotated_iou", _fake_iou)
    torch.library.register_fake("fsdbev::rotated_nms", _fake_nms)
    torch.library.register_fake("fsdbev::circle_nms", _fake_nms)
