"""Cases of rotated IoU and suppression, against the twins and against shapely."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator

import numpy as np
import shapely
import torch
from torch import Tensor

from fsdbev.layers import (
    circle_nms,
    grouped_nms,
    grouped_nms_reference,
    rotated_iou,
    rotated_iou_reference,
    rotated_nms,
)

from .interleaved import Case, bytes_of, farther_than, unequal
from .surround_view import Sizes

_IOU_THRESHOLD, _SQUARED_DISTANCE = 0.2, 1.0
_IOU_TOLERANCE = 1e-5
#: Groups of one sample: the tasks, of which one is suppressed by distance; best boxes that take
#: part, boxes kept.
_GROUPS, _CIRCLE_GROUP, _MAX_INPUT, _MAX_OUTPUT = 6, 3, 500, 83
#: Candidates of a detector lie around so many objects, so far from them (metres, radians).
_OBJECTS, _SCATTER = 40, 0.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--boxes", type=int, default=1000, help="boxes to suppress among")


def heading(args: argparse.Namespace, sizes: Sizes) -> str:
    return f"M {args.boxes}"


def cases(args: argparse.Namespace, sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Boxes around few objects, as a detector proposes them, and boxes all over the grid."""
    apart, crowded = _apart(args.boxes, 0), _crowded(args.boxes, 0)
    scores = _scores(args.boxes)
    yield _iou_case(f"{args.boxes} x {args.boxes}", crowded.to(device))
    for name, boxes in (("crowded", crowded), ("apart", apart)):
        yield _rotated_case(name, boxes.to(device), scores.to(device))
    yield _circle_case("crowded", crowded.to(device), scores.to(device))
    groups = torch.stack([_crowded(args.boxes, group) for group in range(_GROUPS)])
    yield _grouped_case(groups.to(device), _scores(_GROUPS, args.boxes).to(device))


def _iou_case(sizes: str, boxes: Tensor) -> Case:
    sides = {
        "ours": lambda: rotated_iou(boxes, boxes),
        "twin": lambda: rotated_iou_reference(boxes, boxes),
        "shapely": lambda: shapely_iou(boxes),
    }
    moved = 2 * bytes_of(boxes) + len(boxes) ** 2 * torch.float32.itemsize
    return Case("rotated_iou", sizes, sides, farther_than(_IOU_TOLERANCE), (moved,))


def _rotated_case(name: str, boxes: Tensor, scores: Tensor) -> Case:
    sides = {
        "ours": lambda: rotated_nms(boxes, scores, _IOU_THRESHOLD),
        "twin": lambda: _twin(boxes, scores, _IOU_THRESHOLD, False),
        "shapely": lambda: shapely_nms(boxes, scores, _IOU_THRESHOLD),
    }
    return Case("rotated_nms", name, sides, unequal, (bytes_of(boxes, scores),))


def _circle_case(name: str, boxes: Tensor, scores: Tensor) -> Case:
    centers = boxes[:, :2].contiguous()
    sides = {
        "ours": lambda: circle_nms(centers, scores, _SQUARED_DISTANCE),
        "twin": lambda: _twin(boxes, scores, _SQUARED_DISTANCE, True),
    }
    return Case("circle_nms", name, sides, unequal, (bytes_of(centers, scores),))


def _twin(boxes: Tensor, scores: Tensor, threshold: float, is_circle: bool) -> Tensor:
    keep, _ = grouped_nms_reference(
        boxes[None],
        scores[None],
        torch.tensor([threshold], dtype=torch.float64, device=boxes.device),
        torch.tensor([is_circle], device=boxes.device),
        len(boxes),
        len(boxes),
    )
    return keep[keep >= 0]


def _grouped_case(boxes: Tensor, scores: Tensor) -> Case:
    """All tasks of a sample in one call."""
    is_circle = torch.arange(len(boxes), device=boxes.device) == _CIRCLE_GROUP
    thresholds = torch.where(is_circle, _SQUARED_DISTANCE, _IOU_THRESHOLD)
    arguments = (boxes, scores, thresholds, is_circle, _MAX_INPUT, _MAX_OUTPUT)
    sides = {
        "ours": lambda: grouped_nms(*arguments),
        "twin": lambda: grouped_nms_reference(*arguments),
    }
    sizes = f"{len(boxes)} groups, best {_MAX_INPUT}"
    return Case("grouped_nms", sizes, sides, unequal, (bytes_of(boxes, scores),))


def shapely_iou(boxes: Tensor) -> Tensor:
    """(M, M) IoU by shapely; a search tree leaves out pairs that are far from each other."""
    polygons = _polygons(boxes)
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    overlap = shapely.area(shapely.intersection(polygons[first], polygons[second]))
    area = shapely.area(polygons)
    iou = np.zeros((len(boxes), len(boxes)), np.float32)
    iou[first, second] = overlap / (area[first] + area[second] - overlap)
    return torch.from_numpy(iou)


def shapely_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Greedy suppression by the IoU of shapely."""
    order = scores.argsort(descending=True, stable=True).cpu()
    suppresses = shapely_iou(boxes[order]).numpy() > threshold
    stays = np.ones(len(order), bool)
    for i in range(len(order)):
        if stays[i]:
            stays[i + 1 :] &= ~suppresses[i, i + 1 :]
    return order[torch.from_numpy(stays)]


def _polygons(boxes: Tensor) -> np.ndarray:
    x, y, length, width, yaw = boxes.double().cpu().numpy().T[..., None]
    along = np.array([0.5, -0.5, -0.5, 0.5]) * length
    across = np.array([0.5, 0.5, -0.5, -0.5]) * width
    corners = (
        x + np.cos(yaw) * along - np.sin(yaw) * across,
        y + np.sin(yaw) * along + np.cos(yaw) * across,
    )
    return shapely.polygons(np.stack(corners, axis=-1))


def _apart(number: int, seed: int) -> Tensor:
    """(M, 5) boxes of cars and the like all over 102.4 m."""
    generator = torch.Generator().manual_seed(seed)
    center = 102.4 * (torch.rand(number, 2, generator=generator) - 0.5)
    size = torch.rand(number, 2, generator=generator) * torch.tensor([6.0, 1.5]) + 1
    yaw = 2 * math.pi * torch.rand(number, 1, generator=generator)
    return torch.cat([center, size, yaw], dim=1)


def _crowded(number: int, seed: int) -> Tensor:
    """(M, 5) boxes close to one or another of few objects."""
    generator = torch.Generator().manual_seed(seed)
    objects = _apart(_OBJECTS, seed)[torch.randint(_OBJECTS, (number,), generator=generator)]
    boxes = objects + _SCATTER * torch.randn(number, 5, generator=generator)
    boxes[:, 2:4].clamp_(min=0.5)
    return boxes


def _scores(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))
