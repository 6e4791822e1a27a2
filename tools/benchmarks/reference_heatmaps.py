"""The published ways to heatmaps, stated anew: whole maps that are drawn and then warped, and BEV
targets box by box.

Letters: M boxes, V views, C classes, H x W network image, Y x X BEV grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsdbev.d2.structures import Instances
from fsdbev.structures import BEVGrid

_EPSILON = np.finfo(np.float32).eps


def reference_heatmaps(
    boxes: Tensor,
    view: Tensor,
    class_ids: Tensor,
    image_aug: Tensor,
    source_sizes: Tensor,
    *,
    num_classes: int,
    image_size: tuple[int, int],
    stride: int,
) -> Tensor:
    """Arguments and result as of ``fsdbev.layers.elliptical_heatmaps``: every class is drawn on a
    map as large as the original image, which is warped as the image is, and then made smaller."""
    result = []
    for number, (matrix, (width, height)) in enumerate(zip(image_aug, source_sizes.tolist())):
        maps = np.zeros((num_classes, height, width), np.float32)
        chosen = view == number
        for box, class_id in zip(boxes[chosen], class_ids[chosen].tolist()):
            x1, y1, x2, y2 = box.tolist()
            center = (int((x1 + x2) / 2), int((y1 + y2) / 2))
            draw_gaussian(maps[class_id], center, (int((x2 - x1) / 2), int((y2 - y1) / 2)), 4)
        pixels = np.ascontiguousarray(maps.transpose(1, 2, 0))
        affine = matrix[:2, [0, 1, 3]].double().numpy()
        pixels = cv2.warpAffine(pixels, affine, image_size[::-1])
        cells = cv2.resize(pixels, (image_size[1] // stride, image_size[0] // stride))
        result.append(torch.from_numpy(np.ascontiguousarray(cells.transpose(2, 0, 1))))
    return torch.stack(result)


def reference_center_targets(
    instances: Sequence[Instances],
    *,
    tasks: Sequence[Sequence[int]],
    grid: BEVGrid,
    min_radius: int,
    min_overlap: float,
    max_boxes: int,
    device: torch.device,
) -> tuple[Tensor, ...]:
    """Task by task, sample by sample, box by box: a heatmap (B, K, Y, X) of every task, then of
    every box the regression, its task and its center cell. Boxes must be on the grid."""
    offsets = np.cumsum([0, *(len(i) for i in instances)])
    regression = torch.zeros(offsets[-1], 10)
    task_of_box, cell = torch.full((2, offsets[-1]), -1)
    heatmaps = []
    for task, classes in enumerate(tasks):
        maps = np.zeros((len(instances), len(classes), *grid.shape), np.float32)
        for sample, objects in enumerate(instances):
            drawn = 0
            for number, class_id in enumerate(objects.gt_classes.tolist()):
                if class_id not in classes or drawn == max_boxes:
                    continue
                drawn += 1
                box = objects.gt_boxes_3d.tensor[number]
                x, y, z, length, width, height, yaw, vx, vy = box.tolist()
                column, row = ((p - low) / grid.cell for p, low in zip((x, y), grid.lower))
                radius = _radius(length / grid.cell, width / grid.cell, min_overlap)
                radius = max(min_radius, int(radius))
                plane = maps[sample, classes.index(class_id)]
                draw_gaussian(plane, (int(column), int(row)), (radius, radius), 6)
                index = offsets[sample] + number
                inside = (column - int(column), row - int(row))
                logarithms = (math.log(length), math.log(width), math.log(height))
                values = (*inside, z, *logarithms, math.sin(yaw), math.cos(yaw), vx, vy)
                regression[index] = torch.tensor(values)
                task_of_box[index] = task
                cell[index] = int(row) * grid.shape[1] + int(column)
        heatmaps.append(torch.from_numpy(maps).to(device))
    return (*heatmaps, *(tensor.to(device) for tensor in (regression, task_of_box, cell)))


def draw_gaussian(
    heatmap: NDArray[np.float32], center: tuple[int, int], radius: tuple[int, int], sharpness: int
) -> None:
    """Max-combines a Gaussian of peak 1 into a map, of sigma ``(2 * radius + 1) / sharpness`` and
    cut at the radius along each axis."""
    (x, y), (rx, ry) = center, radius
    across, down = (np.arange(-r, r + 1, dtype=np.float32) for r in radius)
    sigma_x, sigma_y = ((2 * r + 1) / sharpness for r in radius)
    exponent = across[None] ** 2 / (2 * sigma_x**2) + down[:, None] ** 2 / (2 * sigma_y**2)
    values = np.exp(-exponent)
    values[values < _EPSILON * values.max()] = 0
    rows, columns = heatmap.shape
    left, right = min(x, rx), min(columns - x, rx + 1)
    top, bottom = min(y, ry), min(rows - y, ry + 1)
    part = heatmap[y - top : y + bottom, x - left : x + right]
    np.maximum(part, values[ry - top : ry + bottom, rx - left : rx + right], out=part)


def _radius(length: float, width: float, overlap: float) -> float:
    """The smallest of CornerNet's three radii, in the form that center heads use."""
    total, area = length + width, length * width
    radii = []
    for a, b, c in (
        (1, total, area * (1 - overlap) / (1 + overlap)),
        (4, 2 * total, (1 - overlap) * area),
        (4 * overlap, -2 * overlap * total, (overlap - 1) * area),
    ):
        radii.append((b + math.sqrt(b * b - 4 * a * c)) / 2)
    return min(radii)
