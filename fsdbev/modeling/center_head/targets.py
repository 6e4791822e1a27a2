"""Detection targets: center heatmaps and the box regression at each center cell.

Shapes: B batch, P boxes of the whole batch, T tasks, K classes (of a task, or of all), Y, X cells
of the BEV grid, R = 10 regression channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsdbev.d2.structures import Instances
from fsdbev.layers import draw_gaussians
from fsdbev.structures import BEVGrid, Boxes3D

#: The branches a box is regressed by, in the order of the regression channels, and their widths.
REGRESSION = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}


@dataclass(frozen=True)
class CenterTargets:
    """What the tasks should predict for a batch.

    Attributes:
        heatmaps: of each task (B, K, Y, X) float32, 1 at a center, Gaussian around it.
        regression: (P, R) float32 in the order of ``REGRESSION``: offset of the center within its
            cell in cells (x, y), z in metres, log of length, width and height, sine and cosine
            of the yaw, vx and vy in m/s. NaN where unknown.
        task: (P,) int64 task that regresses each box, -1 where none does.
        sample: (P,) int64 index into the batch.
        cell: (P,) int64 center cell, ``y * X + x``; 0 where no task regresses the box.
    """

    heatmaps: tuple[Tensor, ...]
    regression: Tensor
    task: Tensor
    sample: Tensor
    cell: Tensor


def center_targets(
    instances: Sequence[Instances],
    *,
    tasks: Sequence[Sequence[int]],
    grid: BEVGrid,
    min_radius: int,
    min_overlap: float,
    max_boxes: int,
    device: torch.device | str,
) -> CenterTargets:
    """Targets of all tasks (SPEC section 8; CenterPoint).

    Boxes are few: they are encoded where they come from, the CPU, and only the maps are drawn on
    ``device``, which need not be waited for.

    Args:
        instances: one a sample, with ``gt_boxes_3d`` (Boxes3D in the frame of the grid) and
            ``gt_classes`` (M,) int64.
        tasks: class ids of each task.
        grid: the grid the head predicts on.
        min_radius: smallest Gaussian radius, cells.
        min_overlap: overlap a box displaced by the radius keeps, see :func:`gaussian_radius`.
        max_boxes: at most so many boxes a task and sample, the first ones.
        device: where the targets go.

    Boxes whose center is off the grid are dropped.

    Raises:
        ValueError: a class that is in no task, or a size that is not positive.
    """
    boxes = Boxes3D.cat([i.gt_boxes_3d for i in instances]).tensor.float()
    classes = torch.cat([i.gt_classes for i in instances])
    _check(boxes, classes, tasks)
    counts = torch.tensor([len(i) for i in instances], device=boxes.device)
    sample = torch.arange(len(instances), device=boxes.device).repeat_interleave(counts)

    center = (boxes[:, 0:2] - boxes.new_tensor(grid.lower[:2])) / grid.cell  # cells (x, y)
    on_grid = ((center >= 0) & (center < center.new_tensor(grid.count[:2]))).all(dim=-1)
    task, plane = _places(classes, tasks)
    task = torch.where(on_grid, task, -1)
    kept = on_grid & (_rank_in_group(sample * (len(tasks) + 1) + task + 1) < max_boxes)
    xy = torch.where(kept[:, None], center, 0).long()

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    widths = [len(class_ids) for class_ids in tasks]
    maps = draw_gaussians(
        moved(xy),
        moved(gaussian_radius(boxes[:, 3:5] / grid.cell, min_overlap).long().clamp(min=min_radius)),
        moved(torch.where(kept, sample * sum(widths) + plane, -1)),
        planes=len(instances) * sum(widths),
        shape=grid.shape,
    )
    return CenterTargets(
        heatmaps=maps.unflatten(0, (len(instances), sum(widths))).split(widths, dim=1),
        regression=moved(_encode(boxes, center - xy)),
        task=moved(torch.where(kept, task, -1)),
        sample=moved(sample),
        cell=moved(xy[:, 1] * grid.shape[1] + xy[:, 0]),
    )


def gaussian_radius(size: Tensor, min_overlap: float) -> Tensor:
    """(P, 2) sizes of boxes in cells -> (P,) radius in cells, float.

    CornerNet (Law and Deng, 2018, section 3.2) takes the smallest of three radii, for a box that is
    shifted, shrunk or grown and keeps ``min_overlap``. In the form in which center heads use its
    formulas, ``(b + sqrt(b^2 - 4ac)) / 2``, the grown box always has the smallest.
    """
    total, area = size.sum(dim=-1), size.prod(dim=-1)
    b = -2 * min_overlap * total
    ac = 4 * min_overlap * (min_overlap - 1) * area
    return (b + (b.square() - 4 * ac).sqrt()) / 2


def _encode(boxes: Tensor, offset: Tensor) -> Tensor:
    """(P, 9) boxes and (P, 2) offsets within the center cell -> (P, R) regression targets."""
    z, log_dims, yaw, velocity = boxes[:, 2:3], boxes[:, 3:6].log(), boxes[:, 6:7], boxes[:, 7:9]
    return torch.cat([offset, z, log_dims, yaw.sin(), yaw.cos(), velocity], dim=-1)


def _places(classes: Tensor, tasks: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(P,) class ids -> (P,) task of each, and (P,) its place among the classes of all tasks."""
    tasks_in_order = [task for task, class_ids in enumerate(tasks) for _ in class_ids]
    plane = (classes[:, None] == _in_order(tasks, classes)).int().argmax(dim=1)
    return classes.new_tensor(tasks_in_order)[plane], plane


def _in_order(tasks: Sequence[Sequence[int]], classes: Tensor) -> Tensor:
    """(K,) class ids of all tasks."""
    return classes.new_tensor([c for class_ids in tasks for c in class_ids])


def _rank_in_group(group: Tensor) -> Tensor:
    """(P,) group ids -> (P,) position of each among those of its group."""
    ordered, order = group.sort(stable=True)
    position = torch.arange(len(group), device=group.device)
    rank = torch.empty_like(position)
    rank[order] = position - torch.searchsorted(ordered, ordered)
    return rank


def _check(boxes: Tensor, classes: Tensor, tasks: Sequence[Sequence[int]]) -> None:
    known = _in_order(tasks, classes)
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
            "drop such boxes where the data is prepared"
        )
