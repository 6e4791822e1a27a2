"""Benchmark cases of rotated IoU and NMS, compared with the references and with shapely.

Shapes: M boxes (x, y, length, width, yaw).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from functools import partial

import torch
from oracles.boxes import shapely_iou_matrix, shapely_nms
from torch import Tensor

from fsdbev.layers import (
    grouped_nms,
    grouped_nms_reference,
    rotated_iou,
    rotated_iou_reference,
    rotated_nms,
)

from .turns import Case, farther_than

_IOU_THRESHOLD, _SQUARED_DISTANCE = 0.2, 1.0
#: Groups are the six tasks of a sample; one of them is suppressed by centre distance.
_GROUPS, _CIRCLE_GROUP = 6, 3
#: Number of best boxes per group that NMS compares, and of boxes that it keeps.
_MAX_INPUT, _MAX_OUTPUT = 500, 83
#: Crowded boxes: number of objects, and standard deviation of boxes around them (metres, radians).
_OBJECTS, _SCATTER = 40, 0.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--boxes", type=int, default=1000, help="boxes for NMS (default: 1000)")


def cases(args: argparse.Namespace, device: torch.device) -> Iterator[Case]:
    """Yields cases of boxes crowded around objects, as from a detector, and of spread boxes."""
    crowded, apart = (make(args.boxes, 0).to(device) for make in (_crowded, _apart))
    scores = torch.rand(args.boxes, generator=torch.Generator().manual_seed(1)).to(device)
    sides = {
        "ours": partial(rotated_iou, crowded, crowded),
        "reference": partial(rotated_iou_reference, crowded, crowded),
        "shapely": partial(shapely_iou_matrix, crowded),
    }
    yield Case("rotated_iou", f"{args.boxes} crowded", sides, farther_than(1e-5))
    yield _rotated_case(f"{args.boxes} crowded", crowded, scores)
    yield _rotated_case(f"{args.boxes} apart", apart, scores)
    groups = torch.stack([_crowded(args.boxes, group) for group in range(_GROUPS)]).to(device)
    yield _grouped_case(groups, scores.expand(_GROUPS, -1).contiguous())


def _rotated_case(name: str, boxes: Tensor, scores: Tensor) -> Case:
    """Returns the case of NMS by IoU in one group."""
    sides = {
        "ours": partial(rotated_nms, boxes, scores, _IOU_THRESHOLD),
        "reference": partial(_one_group, boxes, scores),
        "shapely": partial(shapely_nms, boxes, scores, _IOU_THRESHOLD),
    }
    return Case("rotated_nms", name, sides, farther_than(0))


def _one_group(boxes: Tensor, scores: Tensor) -> Tensor:
    """Returns the indices of the boxes that the reference keeps."""
    threshold = torch.tensor([_IOU_THRESHOLD], dtype=torch.float64, device=boxes.device)
    rotated = torch.zeros(1, dtype=torch.bool, device=boxes.device)
    limits = (threshold, rotated, len(boxes), len(boxes))
    keep, _ = grouped_nms_reference(boxes[None], scores[None], *limits)
    return keep[keep >= 0]


def _grouped_case(boxes: Tensor, scores: Tensor) -> Case:
    """Returns the case of NMS of all tasks of a sample in one call."""
    is_circle = torch.arange(len(boxes), device=boxes.device) == _CIRCLE_GROUP
    thresholds = torch.where(is_circle, _SQUARED_DISTANCE, _IOU_THRESHOLD)
    arguments = (boxes, scores, thresholds, is_circle, _MAX_INPUT, _MAX_OUTPUT)
    sides = {
        "ours": partial(grouped_nms, *arguments),
        "reference": partial(grouped_nms_reference, *arguments),
    }
    sizes = f"{len(boxes)} groups, best {_MAX_INPUT}"
    return Case("grouped_nms", sizes, sides, farther_than(0))


def _apart(number: int, seed: int) -> Tensor:
    """Draws (M, 5) boxes of the size of cars in a square of 102.4 m."""
    generator = torch.Generator().manual_seed(seed)
    center = 102.4 * (torch.rand(number, 2, generator=generator) - 0.5)
    size = torch.rand(number, 2, generator=generator) * torch.tensor([6.0, 1.5]) + 1
    yaw = 2 * math.pi * torch.rand(number, 1, generator=generator)
    return torch.cat([center, size, yaw], dim=1)


def _crowded(number: int, seed: int) -> Tensor:
    """Draws (M, 5) boxes scattered around a small number of objects."""
    generator = torch.Generator().manual_seed(seed)
    objects = _apart(_OBJECTS, seed)[torch.randint(_OBJECTS, (number,), generator=generator)]
    boxes = objects + _SCATTER * torch.randn(number, 5, generator=generator)
    boxes[:, 2:4].clamp_(min=0.5)  # the scatter must not make sizes negative
    return boxes
