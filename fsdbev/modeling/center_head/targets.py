"""Detection targets: center heatmaps and box parameters at the center cells.

Rules of docs/model.md, "Head, targets, decoding"; CenterPoint, arXiv:2006.11275.

Shapes: B batch, M boxes of a sample, P boxes of the batch, T tasks, K classes (of a task or of all
tasks), Y, X cells of the BEV grid, R = 10 regression channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsdbev.d2.structures import Instances
from fsdbev.layers import draw_gaussians
from fsdbev.structures import BEVGrid, Boxes3D

#: Regression branch -> number of channels, in the order of the regression channels.
REGRESSION = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}


@dataclass(frozen=True)
class CenterTargets:
    """Targets of all tasks for a batch.

    Attributes:
        heatmaps: (B, K, Y, X) float32 per task, 1 at centers with Gaussians around them.
        regression: (P, R) in the order of ``REGRESSION``: offset of the center in its cell
            (x, y) in cells, z in metres, log of length, width and height in metres, sine and cosine
            of the yaw, vx and vy in m/s. NaN for unknown values.
        task: (P,) int64 task of each box; -1 for dropped boxes. On the CPU, so that selecting the
            boxes of a task does not wait for the device.
        sample: (P,) int64 index into the batch.
        cell: (P,) int64 center cell ``y * X + x``; 0 for dropped boxes.
    """

    heatmaps: tuple[Tensor, ...]
    regression: Tensor
    task: Tensor
    sample: Tensor
    cell: Tensor

    def of_task(self, task: int) -> Tensor:
        """Returns the indices of the boxes of a task, on the device of the other tensors."""
        boxes = (self.task == task).nonzero().flatten()
        return boxes.to(self.cell.device, non_blocking=True)


def center_targets(
    instances: Sequence[Instances],
    *,
    tasks: Sequence[Sequence[int]],
    grid: BEVGrid,
    min_radius: int,
    min_overlap: float,
    max_boxes: int,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
) -> CenterTargets:
    """Computes the targets of all tasks. Boxes with a center outside the grid are dropped.

    Args:
        instances: one per sample, with ``gt_boxes_3d`` (Boxes3D in the frame of the grid) and
            ``gt_classes`` (M,) int64.
        tasks: class ids of each task.
        grid: the BEV grid of the head.
        min_radius: smallest Gaussian radius, cells.
        min_overlap: overlap that determines the radius, see :func:`gaussian_radius`.
        max_boxes: maximum number of boxes per task and sample; the first ones are kept.
        device: device of the targets.
        dtype: type of the regression targets.

    Raises:
        ValueError: a class is in no task, or a size is not positive.
    """
    # The few boxes are encoded on the CPU, where the loader leaves them. Only the maps are drawn on
    # the device, and nothing waits for it.
    boxes = Boxes3D.cat([i.gt_boxes_3d for i in instances]).tensor.to(dtype)
    classes = torch.cat([i.gt_classes for i in instances])
    _check_boxes(boxes, classes, tasks)
    counts = torch.tensor([len(i) for i in instances], device=boxes.device)
    sample = torch.arange(len(instances), device=boxes.device).repeat_interleave(counts)

    center = (boxes[:, 0:2] - boxes.new_tensor(grid.lower[:2])) / grid.cell  # cells (x, y)
    # Before the truncation to cells, which moves centers just below the bounds into cell 0.
    on_grid = ((center >= 0) & (center < center.new_tensor(grid.count[:2]))).all(dim=-1)
    task, plane = _tasks_and_planes(classes, tasks)
    task = torch.where(on_grid, task, -1)
    # Boxes off the grid (task -1) form a group too, so that they do not count toward max_boxes.
    kept = on_grid & (_rank_in_group(sample * (len(tasks) + 1) + task + 1) < max_boxes)
    xy = torch.where(kept[:, None], center, 0).long()

    def to_device(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    widths = [len(class_ids) for class_ids in tasks]
    # Truncated to whole cells as in the release.
    radius = gaussian_radius(boxes[:, 3:5] / grid.cell, min_overlap).long().clamp(min=min_radius)
    maps = draw_gaussians(
        to_device(xy),
        to_device(radius),
        to_device(torch.where(kept, sample * sum(widths) + plane, -1)),
        planes=len(instances) * sum(widths),
        shape=grid.shape,
    )
    return CenterTargets(
        heatmaps=maps.unflatten(0, (len(instances), sum(widths))).split(widths, dim=1),
        regression=to_device(_encode_boxes(boxes, center - xy)),
        task=torch.where(kept, task, -1).cpu(),
        sample=to_device(sample),
        cell=to_device(xy[:, 1] * grid.shape[1] + xy[:, 0]),
    )


def gaussian_radius(size: Tensor, min_overlap: float) -> Tensor:
    """Computes Gaussian radii from sizes (CornerNet, arXiv:1808.01244, section 3.2).

    Args:
        size: (P, 2) length and width of boxes, cells.
        min_overlap: IoU between a box and its displaced copy in CornerNet's derivation.

    Returns:
        (P,) radii in cells, float.
    """
    # CornerNet takes the smallest of three radii: for corners shifted, inside and outside. Center
    # heads solve its quadratic equations as (b + sqrt(b^2 - 4ac)) / 2, without the division by a,
    # and then the third radius is always the smallest. Kept so that targets equal the release's.
    total, area = size.sum(dim=-1), size.prod(dim=-1)
    b = -2 * min_overlap * total
    ac = 4 * min_overlap * (min_overlap - 1) * area
    return (b + (b.square() - 4 * ac).sqrt()) / 2


def _encode_boxes(boxes: Tensor, offset: Tensor) -> Tensor:
    """Encodes (P, 9) boxes and (P, 2) offsets in the center cell as (P, R) regression targets."""
    z, log_dims, yaw, velocity = boxes[:, 2:3], boxes[:, 3:6].log(), boxes[:, 6:7], boxes[:, 7:9]
    return torch.cat([offset, z, log_dims, yaw.sin(), yaw.cos(), velocity], dim=-1)


def _tasks_and_planes(classes: Tensor, tasks: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Returns the (P,) task of each class id and its (P,) index among the classes of all tasks."""
    tasks_in_order = [task for task, class_ids in enumerate(tasks) for _ in class_ids]
    # int, since argmax does not support bool.
    plane = (classes[:, None] == _class_ids_of(tasks, classes)).int().argmax(dim=1)
    return classes.new_tensor(tasks_in_order)[plane], plane


def _class_ids_of(tasks: Sequence[Sequence[int]], classes: Tensor) -> Tensor:
    """Returns the (K,) class ids of all tasks, on the device of ``classes``."""
    return classes.new_tensor([c for class_ids in tasks for c in class_ids])


def _rank_in_group(group: Tensor) -> Tensor:
    """Returns the (P,) position of each element among the elements of its group."""
    # Stable, so that ranks follow the order of the boxes and max_boxes keeps the first ones. The
    # search finds the first element of each group.
    ordered, order = group.sort(stable=True)
    position = torch.arange(len(group), device=group.device)
    rank = torch.empty_like(position)
    rank[order] = position - torch.searchsorted(ordered, ordered)
    return rank


def _check_boxes(boxes: Tensor, classes: Tensor, tasks: Sequence[Sequence[int]]) -> None:
    """Raises ValueError for a class that is in no task or a size that is not positive."""
    known = _class_ids_of(tasks, classes)
    unknown = ~torch.isin(classes, known)
    if unknown.any():
        raise ValueError(
            f"gt_classes has class {int(classes[unknown][0])}, which no task detects; "
            f"the tasks have {sorted(known.tolist())}"
        )
    flat = ~(boxes[:, 3:6] > 0).all(dim=-1)
    if flat.any():
        raise ValueError(
            f"gt_boxes_3d needs positive sizes, got l, w, h = {boxes[flat][0, 3:6].tolist()}; "
            "remove such boxes when preparing the data"
        )
