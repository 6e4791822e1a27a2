"""Detection targets of one task: center heatmaps and the box regression at each center cell.

Letters: B batch, K classes of the task, P boxes of the task over the whole batch, M boxes of a
sample, Y, X cells of the BEV grid, R = 10 regression channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsdbev.d2.structures import Instances
from fsdbev.structures import BEVGrid, Boxes3D

#: The branches a box is regressed by, in the order of the regression channels, and their widths.
REGRESSION = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}

#: Boxes drawn at a time; bounds the memory of drawing, (chunk, Y, X) floats.
_DRAW_CHUNK = 256


@dataclass(frozen=True)
class TaskTargets:
    """What one task should predict for a batch.

    Attributes:
        heatmap: (B, K, Y, X) float32, 1 at a center, Gaussian around it.
        regression: (P, R) float32 in the order of ``REGRESSION``: offset of the center within its
            cell in cells (x, y), z in metres, log of length, width and height, sine and cosine
            of the yaw, vx and vy in m/s. NaN where unknown.
        sample: (P,) int64 index into the batch.
        cell: (P,) int64 center cell, ``y * X + x``.
    """

    heatmap: Tensor
    regression: Tensor
    sample: Tensor
    cell: Tensor

    def repeat(self, times: int) -> TaskTargets:
        """Targets of a batch in which the samples follow each other ``times`` times, as student
        and teacher do."""
        batch = self.heatmap.shape[0]
        shift = torch.arange(times, device=self.sample.device).repeat_interleave(len(self.sample))
        return TaskTargets(
            heatmap=self.heatmap.repeat(times, 1, 1, 1),
            regression=self.regression.repeat(times, 1),
            sample=self.sample.repeat(times) + batch * shift,
            cell=self.cell.repeat(times),
        )


def center_targets(
    instances: Sequence[Instances],
    *,
    tasks: Sequence[Sequence[int]],
    grid: BEVGrid,
    min_radius: int,
    min_overlap: float,
    max_boxes: int,
    device: torch.device | str,
) -> list[TaskTargets]:
    """Targets of every task (SPEC section 8; CenterPoint).

    Args:
        instances: one a sample, with ``gt_boxes_3d`` (Boxes3D in the frame of the grid) and
            ``gt_classes`` (M,) int64.
        tasks: class ids of each task.
        grid: the grid the head predicts on.
        min_radius: smallest Gaussian radius, cells.
        min_overlap: overlap a box displaced by the radius keeps, see :func:`gaussian_radius`.
        max_boxes: at most so many boxes a task and sample, the first ones.
        device: where the targets are made.

    Boxes whose center is off the grid are dropped.

    Raises:
        ValueError: a class that is in no task, or a size that is not positive.
    """
    boxes = Boxes3D.cat([i.gt_boxes_3d for i in instances]).tensor.float()
    classes = torch.cat([i.gt_classes for i in instances])
    _check(boxes, classes, tasks)
    boxes, classes = boxes.to(device), classes.to(device)
    counts = torch.tensor([len(i) for i in instances], device=device)
    sample = torch.arange(len(instances), device=device).repeat_interleave(counts)

    center = (boxes[:, 0:2] - boxes.new_tensor(grid.lower[:2])) / grid.cell  # cells (x, y)
    on_grid = ((center >= 0) & (center < center.new_tensor(grid.count[:2]))).all(dim=-1)
    radius = gaussian_radius(boxes[:, 3:5] / grid.cell, min_overlap).long().clamp(min=min_radius)
    targets = []
    for class_ids in tasks:
        in_task = classes[:, None] == torch.tensor(class_ids, device=device)
        chosen = (in_task.any(dim=-1) & on_grid).nonzero().squeeze(-1)
        chosen = chosen[_rank_in_group(sample[chosen]) < max_boxes]
        plane = sample[chosen] * len(class_ids) + in_task[chosen].int().argmax(dim=-1)
        xy = center[chosen].long()
        targets.append(
            TaskTargets(
                heatmap=draw_gaussians(
                    xy, radius[chosen], plane, planes=len(instances) * len(class_ids), grid=grid
                ).unflatten(0, (len(instances), len(class_ids))),
                regression=_encode(boxes[chosen], center[chosen] - xy),
                sample=sample[chosen],
                cell=xy[:, 1] * grid.shape[1] + xy[:, 0],
            )
        )
    return targets


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


def draw_gaussians(
    xy: Tensor, radius: Tensor, plane: Tensor, *, planes: int, grid: BEVGrid
) -> Tensor:
    """Peaks of height 1 and sigma ``(2 * radius + 1) / 6``, cut to the square of that radius, the
    larger value where they overlap.

    Args:
        xy: (P, 2) int64 center cells on the grid.
        radius: (P,) int64, cells.
        plane: (P,) int64, the map each is drawn on.

    Returns:
        (planes, Y, X) float32. Every value of a square is above the published cut at float
        epsilon times the peak.
    """
    maps = torch.zeros(planes, *grid.shape, device=xy.device)
    for part in torch.arange(len(xy), device=xy.device).split(_DRAW_CHUNK):
        along_x = _gaussian_1d(xy[part, 0], radius[part], grid.shape[1])
        along_y = _gaussian_1d(xy[part, 1], radius[part], grid.shape[0])
        peaks = along_y[:, :, None] * along_x[:, None, :]
        maps.scatter_reduce_(0, plane[part, None, None].expand_as(peaks), peaks, "amax")
    return maps


def _gaussian_1d(center: Tensor, radius: Tensor, length: int) -> Tensor:
    """(P,) centers and radii -> (P, length) Gaussians, zero beyond the radius."""
    distance = torch.arange(length, device=center.device) - center[:, None]
    sigma = (2 * radius[:, None] + 1) / 6
    values = torch.exp(-distance.square() / (2 * sigma.square()))
    return values * (distance.abs() <= radius[:, None])


def _encode(boxes: Tensor, offset: Tensor) -> Tensor:
    """(P, 9) boxes and (P, 2) offsets within the center cell -> (P, R) regression targets."""
    z, log_dims, yaw, velocity = boxes[:, 2:3], boxes[:, 3:6].log(), boxes[:, 6:7], boxes[:, 7:9]
    return torch.cat([offset, z, log_dims, yaw.sin(), yaw.cos(), velocity], dim=-1)


def _rank_in_group(group: Tensor) -> Tensor:
    """(P,) ascending group ids -> (P,) position of each within its group."""
    first = torch.searchsorted(group, group)
    return torch.arange(len(group), device=group.device) - first


def _check(boxes: Tensor, classes: Tensor, tasks: Sequence[Sequence[int]]) -> None:
    known = torch.tensor([c for task in tasks for c in task], device=classes.device)
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
