"""Rotated IoU and suppression by shapely's intersection of polygons.

Shapes: M boxes (x, y, length, width, yaw).
"""

from __future__ import annotations

import numpy as np
import shapely
import torch
from torch import Tensor


def polygons(boxes: Tensor) -> np.ndarray:
    """(M, 5) boxes -> M polygons."""
    x, y, length, width, yaw = boxes.double().cpu().unbind(dim=1)
    along = torch.stack([yaw.cos(), yaw.sin()], dim=1) * length[:, None] / 2
    aside = torch.stack([-yaw.sin(), yaw.cos()], dim=1) * width[:, None] / 2
    corners = torch.stack([along + aside, aside - along, -along - aside, along - aside], dim=1)
    return shapely.polygons((torch.stack([x, y], dim=1)[:, None] + corners).numpy())


def shapely_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of (M, 5) boxes with (M, 5) boxes, pair by pair; (M,) float64, good to 1e-8.

    Without a grid for its corners, GEOS finds no intersection of some pairs of almost equal boxes.
    """
    a, b = polygons(a), polygons(b)
    overlap = shapely.area(shapely.intersection(a, b, grid_size=1e-10))
    return torch.from_numpy(overlap / (shapely.area(a) + shapely.area(b) - overlap))


def shapely_iou_matrix(boxes: Tensor) -> Tensor:
    """(M, M) float32 IoU. Quicker than pairs: a search tree finds the boxes that touch, and corners
    need no grid where no boxes are almost equal."""
    shapes = polygons(boxes)
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    overlap = shapely.area(shapely.intersection(shapes[first], shapes[second]))
    area = shapely.area(shapes)
    iou = np.zeros((len(boxes), len(boxes)), np.float32)
    iou[first, second] = overlap / (area[first] + area[second] - overlap)
    return torch.from_numpy(iou)


def shapely_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices of the (M, 5) boxes that greedy suppression keeps, best first."""
    order = scores.argsort(descending=True, stable=True).cpu()
    suppresses = shapely_iou_matrix(boxes[order]) > threshold
    kept = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if kept[i]:
            kept[i + 1 :] &= ~suppresses[i, i + 1 :]
    return order[kept]
