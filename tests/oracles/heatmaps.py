"""Heatmaps of the public releases: warped maps of the source size, and BEV targets box by box.

Shapes: M boxes, V views, C classes, H x W network image, Y x X BEV grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from fsdbev.d2.structures import Instances
from fsdbev.structures import BEVGrid


def draw_gaussian(
    heatmap: Tensor, center: tuple[int, int], radius: tuple[int, int], sharpness: int
) -> None:
    """Takes the maximum of a map and a Gaussian of peak 1, in place.

    Args:
        heatmap: (rows, columns) map that is changed.
        center: cell of the peak along x and y.
        radius: cells along x and y beyond which the Gaussian is zero.
        sharpness: sigma is (2 * radius + 1) / sharpness.
    """
    axes = []
    for middle, half, size in zip(center, radius, heatmap.shape[::-1]):
        first, end = max(middle - half, 0), min(middle + half + 1, size)
        sigma = (2 * half + 1) / sharpness
        exponent = (torch.arange(first, max(first, end)) - middle) ** 2 / (2 * sigma**2)
        axes.append((slice(first, max(first, end)), exponent))
    (columns, across), (rows, down) = axes
    values = torch.exp(-(across + down[:, None])).to(heatmap.device)
    heatmap[rows, columns] = heatmap[rows, columns].maximum(values)


def full_size_maps(
    boxes: Tensor, class_ids: Tensor, num_classes: int, size: tuple[int, int]
) -> Tensor:
    """Returns maps (C, height, width) with one elliptical Gaussian per box.

    Args:
        boxes: (M, 4) x1, y1, x2, y2 in pixels.
        class_ids: (M,) class of each box.
        num_classes: C.
        size: width and height of the image.
    """
    maps = torch.zeros(num_classes, *size[::-1])
    for (x1, y1, x2, y2), class_id in zip(boxes.tolist(), class_ids.tolist()):
        center = (int((x1 + x2) / 2), int((y1 + y2) / 2))
        draw_gaussian(maps[class_id], center, (int((x2 - x1) / 2), int((y2 - y1) / 2)), 4)
    return maps


def published_heatmaps(
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
    """Draws maps of the source image's size, warps them like the image and resizes them.

    OpenCV warps in steps of 1/32 pixel. Arguments and result are those of
    ``fsdbev.layers.elliptical_heatmaps``.
    """
    result = []
    for number, (matrix, size) in enumerate(zip(image_aug, source_sizes.tolist())):
        of_view = view == number
        maps = full_size_maps(boxes[of_view], class_ids[of_view], num_classes, size)
        pixels = maps.permute(1, 2, 0).contiguous().numpy()
        affine = matrix[:2, [0, 1, 3]].double().numpy()
        pixels = cv2.warpAffine(pixels, affine, image_size[::-1])
        cells = cv2.resize(pixels, (image_size[1] // stride, image_size[0] // stride))
        result.append(torch.from_numpy(np.ascontiguousarray(cells.transpose(2, 0, 1))))
    return torch.stack(result)


def cornernet_radius(length: float, width: float, overlap: float) -> float:
    """Returns the smallest of CornerNet's three radii, in the form that center heads use."""
    total, area = length + width, length * width
    equations = (
        (1, total, area * (1 - overlap) / (1 + overlap)),
        (4, 2 * total, (1 - overlap) * area),
        (4 * overlap, -2 * overlap * total, (overlap - 1) * area),
    )
    return min((b + (b**2 - 4 * a * c) ** 0.5) / 2 for a, b, c in equations)


def published_center_targets(
    instances: Sequence[Instances],
    *,
    tasks: Sequence[Sequence[int]],
    grid: BEVGrid,
    min_radius: int,
    min_overlap: float,
    max_boxes: int,
    device: torch.device | str,
) -> tuple[Tensor, ...]:
    """Computes the targets of the center head in loops over tasks, samples and boxes.

    The arguments are those of ``center_targets``.

    Returns:
        One heatmap (B, K, Y, X) per task; then the regression (M, 10), the task (M,), -1 for a box
        without a target, and the center cell (M,) of all boxes.
    """
    offsets = np.cumsum([0, *(len(objects) for objects in instances)])
    regression = torch.zeros(offsets[-1], 10, device=device)
    task_of_box, cell = torch.full((2, offsets[-1]), -1, device=device)
    lower = torch.tensor(grid.lower[:2], device=device)
    heatmaps = []
    for task, classes in enumerate(tasks):
        maps = torch.zeros(len(instances), len(classes), *grid.shape, device=device)
        for sample, objects in enumerate(instances):
            boxes, drawn = objects.gt_boxes_3d.tensor.to(device), 0
            for number, class_id in enumerate(objects.gt_classes.tolist()):
                box = boxes[number]
                position = (box[:2] - lower) / grid.cell
                column, row = position.floor().int().tolist()
                inside = 0 <= column < grid.shape[1] and 0 <= row < grid.shape[0]
                if class_id not in classes or not inside or drawn == max_boxes:
                    continue
                drawn += 1
                radius = int(cornernet_radius(box[3] / grid.cell, box[4] / grid.cell, min_overlap))
                radius = max(min_radius, radius)
                plane = maps[sample, classes.index(class_id)]
                draw_gaussian(plane, (column, row), (radius, radius), 6)
                index, yaw = offsets[sample] + number, box[6:7]
                sizes = (box[2:3], box[3:6].log(), yaw.sin(), yaw.cos(), box[7:9])
                regression[index] = torch.cat([position - position.floor(), *sizes])
                task_of_box[index] = task
                cell[index] = row * grid.shape[1] + column
        heatmaps.append(maps)
    return (*heatmaps, regression, task_of_box, cell)
