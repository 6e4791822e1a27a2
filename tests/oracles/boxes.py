"""Rotated IoU and non-maximum suppression by shapely's intersection of polygons.

Shapes: M boxes (x, y, length, width, yaw).
"""

from __future__ import annotations

import numpy as np
import shapely
import torch
from torch import Tensor


def polygons(boxes: Tensor) -> np.ndarray:
    """Returns M polygons of (M, 5) boxes."""
    x, y, length, width, yaw = boxes.double().cpu().unbind(dim=1)
    along = torch.stack([yaw.cos(), yaw.sin()], dim=1) * length[:, None] / 2
    aside = torch.stack([-yaw.sin(), yaw.cos()], dim=1) * width[:, None] / 2
    corners = torch.stack([along + aside, aside - along, -along - aside, along - aside], dim=1)
    return shapely.polygons((torch.stack([x, y], dim=1)[:, None] + corners).numpy())


def shapely_iou(a: Tensor, b: Tensor) -> Tensor:
    """Returns the IoU (M,) float64 of pairs of boxes (M, 5) and (M, 5), exact to 1e-8."""
    a, b = polygons(a), polygons(b)
    # Without a grid for the corners, GEOS misses the intersection of some almost equal boxes.
    overlap = shapely.area(shapely.intersection(a, b, grid_size=1e-10))
    return torch.from_numpy(overlap / (shapely.area(a) + shapely.area(b) - overlap))


def shapely_iou_matrix(boxes: Tensor) -> Tensor:
    """Returns the IoU (M, M) float32 of all pairs of (M, 5) boxes, none of them almost equal."""
    shapes = polygons(boxes)
    # A search tree finds the boxes that touch: much faster than all pairs.
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    overlap = shapely.area(shapely.intersection(shapes[first], shapes[second]))
    area = shapely.area(shapes)
    iou = np.zeros((len(boxes), len(boxes)), np.float32)
    iou[first, second] = overlap / (area[first] + area[second] - overlap)
    return torch.from_numpy(iou)


def shapely_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Returns the indices of the (M, 5) boxes that greedy suppression keeps, best first."""
    order = scores.argsort(descending=True, stable=True).cpu()
    suppresses = shapely_iou_matrix(boxes[order]) > threshold
    kept = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if kept[i]:
            kept[i + 1 :] &= ~suppresses[i, i + 1 :]
    return order[kept]
