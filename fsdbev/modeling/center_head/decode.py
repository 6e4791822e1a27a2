"""From head maps to boxes: the best cells, their boxes, non-maximum suppression in BEV.

Shapes: B batch, T tasks, M candidates of a task, Y, X BEV cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsdbev.layers import grouped_nms
from fsdbev.modeling.precision import full_precision
from fsdbev.structures import TASKS, BEVGrid, Boxes3D

from .targets import REGRESSION

#: NMS of every task looks at the best ``NMS_INPUT`` boxes and keeps ``NMS_OUTPUT`` at most.
NMS_INPUT, NMS_OUTPUT = 1000, 83
#: Sizes stay within exp(+-6) m, 2.5 mm to 403 m, so that an untrained head's boxes are finite too.
MAX_LOG_DIM = 6.0


@dataclass(frozen=True)
class RotatedNMS:
    """Suppresses by IoU of the rotated rectangles in BEV, whatever the class within the task.

    Attributes:
        iou_threshold: larger overlaps are suppressed.
        dim_scale: factor on length and width before NMS for each class of the task (Scale-NMS,
            BEVDet section 3.3): small objects grow, so that their duplicates overlap.
    """

    iou_threshold: float
    dim_scale: tuple[float, ...]


@dataclass(frozen=True)
class CircleNMS:
    """Suppresses by distance of centers in BEV, ``squared_distance`` in square metres."""

    squared_distance: float


@dataclass(frozen=True)
class CenterTask:
    """Classes that share a set of branches, and how their boxes are suppressed."""

    class_names: tuple[str, ...]
    nms: RotatedNMS | CircleNMS

    def __post_init__(self) -> None:
        scales = getattr(self.nms, "dim_scale", self.class_names)
        if len(scales) != len(self.class_names):
            raise ValueError(
                f"task {self.class_names} needs one dim_scale a class, got {tuple(scales)}"
            )


#: The six tasks of nuScenes (SPEC section 8).
CENTER_TASKS = tuple(
    CenterTask(names, nms)
    for names, nms in zip(
        TASKS,
        (
            RotatedNMS(0.2, dim_scale=(1.0,)),
            RotatedNMS(0.2, dim_scale=(0.7, 0.7)),
            RotatedNMS(0.2, dim_scale=(0.4, 0.55)),
            CircleNMS(1.0),
            RotatedNMS(0.2, dim_scale=(1.0, 1.0)),
            RotatedNMS(0.5, dim_scale=(4.5, 9.0)),
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class Candidates:
    """Boxes: ``boxes`` (..., M, 9), ``scores`` (..., M), ``classes`` (..., M) int64. A score of
    -inf marks a slot without a box."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def __getitem__(self, item) -> Candidates:
        return Candidates(self.boxes[item], self.scores[item], self.classes[item])


class BoxDecoder(nn.Module):
    """The boxes of each sample from the head maps of all tasks: the best cells, then NMS.

    Args:
        tasks: classes of each task and their NMS.
        class_ids: what detections call the classes of each task.
        grid: the BEV grid of the maps.
        max_candidates: cells of a task and sample that become boxes.
        score_threshold: boxes must score higher.
        center_range: x, y, z lower, then upper bounds of centers in metres, inclusive.
    """

    def __init__(
        self,
        *,
        tasks: Sequence[CenterTask],
        class_ids: Sequence[Sequence[int]],
        grid: BEVGrid,
        max_candidates: int,
        score_threshold: float,
        center_range: Sequence[float],
    ) -> None:
        super().__init__()
        self.grid = grid
        self.max_candidates, self.score_threshold = max_candidates, score_threshold
        self.center_range = tuple(center_range)

        circle = [isinstance(task.nms, CircleNMS) for task in tasks]
        threshold = [
            task.nms.squared_distance if is_circle else task.nms.iou_threshold
            for task, is_circle in zip(tasks, circle, strict=True)
        ]
        dim_scale = [
            scale
            for task in tasks
            for scale in getattr(task.nms, "dim_scale", [1.0] * len(task.class_names))
        ]
        constants = {  # of each task, and of each class in the order of the tasks
            "is_circle": torch.tensor(circle),
            "nms_threshold": torch.tensor(threshold, dtype=torch.float64),
            "dim_scale": torch.tensor(dim_scale, dtype=torch.float64),
            "class_ids": torch.tensor([i for ids in class_ids for i in ids]),
        }
        for name, values in constants.items():
            self.register_buffer(name, values, persistent=False)

    @full_precision
    def forward(self, predictions: Sequence[dict[str, Tensor]]) -> list[Candidates]:
        """Maps (B, ..., Y, X) of every task -> boxes of each sample, by task and by descending
        score within a task. The host waits for the device once, for how many there are."""
        candidates = top_candidates(predictions, grid=self.grid, max_candidates=self.max_candidates)
        candidates = self.drop_invalid(candidates)
        keep, num_kept = self.suppress(candidates)
        found = to_front(candidates, keep)
        found = replace(found, classes=self.class_ids[found.classes])
        return [found[b, :count] for b, count in enumerate(num_kept.sum(dim=1).tolist())]

    def drop_invalid(self, candidates: Candidates) -> Candidates:
        """-inf as the score of boxes that score too low or lie out of range."""
        valid = candidates.scores > self.score_threshold
        bounds = zip(self.center_range[:3], self.center_range[3:], strict=True)
        for i, (lower, upper) in enumerate(bounds):
            valid &= (candidates.boxes[..., i] >= lower) & (candidates.boxes[..., i] <= upper)
        return replace(candidates, scores=candidates.scores.masked_fill(~valid, -math.inf))

    def suppress(self, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """(B, T, M) candidates -> the slots kept (B, T, NMS_OUTPUT), best first, then -1; (B, T)
        how many."""
        batch, tasks, slots = candidates.scores.shape
        boxes = Boxes3D(candidates.boxes.flatten(0, 2))
        scale = self.dim_scale[candidates.classes.flatten()].to(boxes.tensor.dtype)
        sizes = boxes.dims[:, :2] * scale[:, None]
        bev = torch.cat([boxes.centers[:, :2], sizes, boxes.yaw[:, None]], dim=1)
        keep, num_kept = grouped_nms(
            bev.view(batch * tasks, slots, 5),
            candidates.scores.flatten(0, 1),
            self.nms_threshold.repeat(batch),
            self.is_circle.repeat(batch),
            NMS_INPUT,
            NMS_OUTPUT,
        )
        return keep.view(batch, tasks, NMS_OUTPUT), num_kept.view(batch, tasks)


def top_candidates(
    predictions: Sequence[dict[str, Tensor]], *, grid: BEVGrid, max_candidates: int
) -> Candidates:
    """The ``max_candidates`` best cells of every sample and task as boxes, (B, T, M) of them;
    ``classes`` count on from task to task.

    Best over all classes of a task at once: the published choice, best of each class and then best
    of those, gives the same set.
    """
    rows, columns = grid.shape
    best, first_class = [], 0
    for prediction in predictions:
        heatmap = prediction["heatmap"].sigmoid().flatten(1)
        scores, index = heatmap.topk(min(max_candidates, heatmap.shape[1]))
        missing = (0, max_candidates - scores.shape[1])  # more than there are cells
        scores, index = F.pad(scores, missing, value=-math.inf), F.pad(index, missing)
        cells, classes = index % (rows * columns), index // (rows * columns) + first_class
        first_class += prediction["heatmap"].shape[1]
        values = [
            prediction[branch].flatten(2).gather(2, cells[:, None].expand(-1, channels, -1))
            for branch, channels in REGRESSION.items()
        ]
        best.append((scores, classes, cells, torch.cat(values, dim=1)))
    scores, classes, cells, values = (torch.stack(each, dim=1) for each in zip(*best))
    return Candidates(_boxes(cells, values.mT, grid), scores, classes)


def _boxes(cells: Tensor, values: Tensor, grid: BEVGrid) -> Tensor:
    """(...) cells y * X + x and what the branches say there, (..., 10) -> (..., 9) boxes."""
    offset, z, log_dims, rot, velocity = values.split(list(REGRESSION.values()), dim=-1)
    x = (cells % grid.shape[1] + offset[..., 0]) * grid.cell + grid.lower[0]
    y = (cells // grid.shape[1] + offset[..., 1]) * grid.cell + grid.lower[1]
    dims = log_dims.clamp(-MAX_LOG_DIM, MAX_LOG_DIM).exp()
    yaw = torch.atan2(rot[..., :1], rot[..., 1:])
    return torch.cat([torch.stack([x, y], dim=-1), z, dims, yaw, velocity], dim=-1)


def to_front(candidates: Candidates, keep: Tensor) -> Candidates:
    """(B, T, M) candidates and slots to keep (B, T, K), or -1 -> (B, T * K) candidates: those kept
    by task, then others without meaning."""
    batch, tasks, slots = candidates.scores.shape
    first_slot = torch.arange(0, tasks * slots, slots, device=keep.device)
    order = (keep < 0).flatten(1).byte().argsort(dim=1, stable=True)
    kept = (keep.clamp(min=0) + first_slot[:, None]).flatten(1).gather(1, order)
    flat = Candidates(
        candidates.boxes.flatten(1, 2), candidates.scores.flatten(1), candidates.classes.flatten(1)
    )
    return flat[torch.arange(batch, device=keep.device)[:, None], kept]
