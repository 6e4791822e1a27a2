"""The published ways to heatmaps, stated anew: whole maps that are drawn and then warped, and BEV
targets box by box.

Letters: M boxes, V views, C classes, H x W network image, Y x X BEV grid.
"""

from __future__ import annotations

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
    """Task by task, sample by sample, box by box, each box a tensor on the device: a heatmap
    (B, K, Y, X) of every task, then of every box the regression, its task and its center cell.
    Boxes must be on the grid."""
    offsets = np.cumsum([0, *(len(i) for i in instances)])
    regression = torch.zeros(offsets[-1], 10, device=device)
    task_of_box, cell = torch.full((2, offsets[-1]), -1, device=device)
    lower = torch.tensor(grid.lower[:2], device=device)
    heatmaps = []
    for task, classes in enumerate(tasks):
        maps = torch.zeros(len(instances), len(classes), *grid.shape, device=device)
        for sample, objects in enumerate(instances):
            boxes = objects.gt_boxes_3d.tensor.to(device)
            drawn = 0
            for number, class_id in enumerate(objects.gt_classes.tolist()):
                if class_id not in classes or drawn == max_boxes:
                    continue
                drawn += 1
                box = boxes[number]
                length, width = box[3] / grid.cell, box[4] / grid.cell
                radius = max(min_radius, int(_radius(length, width, min_overlap)))
                place = (box[:2] - lower) / grid.cell
                corner = place.int()
                column, row = corner.tolist()
                plane = maps[sample, classes.index(class_id)]
                _draw_on_device(plane, (column, row), radius)
                index = offsets[sample] + number
                yaw = box[6:7]
                parts = (place - corner, box[2:3], box[3:6].log(), yaw.sin(), yaw.cos(), box[7:9])
                regression[index] = torch.cat(parts)
                task_of_box[index] = task
                cell[index] = row * grid.shape[1] + column
        heatmaps.append(maps)
    return (*heatmaps, regression, task_of_box, cell)


def draw_gaussian(
    heatmap: NDArray[np.float32], center: tuple[int, int], radius: tuple[int, int], sharpness: int
) -> None:
    """Max-combines a Gaussian of peak 1 into a map, of sigma ``(2 * radius + 1) / sharpness`` and
    cut at the radius along each axis."""
    part, seen = _overlap(center, radius, heatmap.shape)
    np.maximum(heatmap[part], _gaussian(radius, sharpness)[seen], out=heatmap[part])


def _draw_on_device(heatmap: Tensor, center: tuple[int, int], radius: int) -> None:
    """As draw_gaussian, of sharpness 6."""
    part, seen = _overlap(center, (radius, radius), heatmap.shape)
    values = torch.from_numpy(_gaussian((radius, radius), 6)[seen]).to(heatmap.device)
    torch.maximum(heatmap[part], values, out=heatmap[part])


def _gaussian(radius: tuple[int, int], sharpness: int) -> NDArray[np.float32]:
    across, down = (np.arange(-r, r + 1, dtype=np.float32) for r in radius)
    sigma_x, sigma_y = ((2 * r + 1) / sharpness for r in radius)
    exponent = across[None] ** 2 / (2 * sigma_x**2) + down[:, None] ** 2 / (2 * sigma_y**2)
    values = np.exp(-exponent)
    values[values < _EPSILON * values.max()] = 0
    return values


def _overlap(
    center: tuple[int, int], radius: tuple[int, int], shape: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the map that a Gaussian lies on, and the part of the Gaussian on the map."""
    (x, y), (rx, ry), (rows, columns) = center, radius, shape
    left, right = min(x, rx), min(columns - x, rx + 1)
    top, bottom = min(y, ry), min(rows - y, ry + 1)
    part = (slice(y - top, y + bottom), slice(x - left, x + right))
    return part, (slice(ry - top, ry + bottom), slice(rx - left, rx + right))


def _radius(length: Tensor, width: Tensor, overlap: float) -> Tensor:
    """The smallest of CornerNet's three radii, in the form that center heads use."""
    total, area = length + width, length * width
    radii = []
    for a, b, c in (
        (1, total, area * (1 - overlap) / (1 + overlap)),
        (4, 2 * total, (1 - overlap) * area),
        (4 * overlap, -2 * overlap * total, (overlap - 1) * area),
    ):
        radii.append((b + torch.sqrt(b**2 - 4 * a * c)) / 2)
    return min(radii)
