"""From head maps to boxes: the best cells, their boxes, non-maximum suppression in BEV.

Letters: B batch, K classes of a task, M boxes, Y, X BEV cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsdbev.layers import circle_nms, rotated_nms
from fsdbev.structures import TASKS, BEVGrid, Boxes3D

from ..precision import full_precision
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

    def __call__(self, boxes: Boxes3D, scores: Tensor, classes: Tensor) -> Tensor:
        """Indices to keep, by descending score; ``classes`` (M,) count within the task."""
        bev = boxes.bev
        bev[:, 2:4] *= bev.new_tensor(self.dim_scale)[classes, None]
        return rotated_nms(bev, scores, self.iou_threshold, NMS_INPUT, NMS_OUTPUT)


@dataclass(frozen=True)
class CircleNMS:
    """Suppresses by distance of centers in BEV, ``squared_distance`` in square metres."""

    squared_distance: float

    def __call__(self, boxes: Boxes3D, scores: Tensor, classes: Tensor) -> Tensor:
        """Indices to keep, by descending score."""
        centers = boxes.centers[:, :2]
        return circle_nms(centers, scores, self.squared_distance, NMS_INPUT, NMS_OUTPUT)


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
    """Boxes of one task: ``boxes`` (..., M, 9), ``scores`` (..., M), ``classes`` (..., M) within
    the task."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def __getitem__(self, item) -> Candidates:
        return Candidates(self.boxes[item], self.scores[item], self.classes[item])


def top_candidates(
    prediction: dict[str, Tensor], *, grid: BEVGrid, max_candidates: int
) -> Candidates:
    """The ``max_candidates`` best cells of each sample as boxes, (B, M) of them.

    Best over all classes at once: the published choice, best of each class and then best of
    those, gives the same set.
    """
    heatmap = prediction["heatmap"].sigmoid().flatten(1)
    scores, index = heatmap.topk(min(max_candidates, heatmap.shape[1]))
    rows, columns = grid.shape
    cell = index % (rows * columns)
    maps = torch.cat([prediction[branch] for branch in REGRESSION], dim=1).flatten(2)
    values = maps.gather(2, cell[:, None].expand(-1, maps.shape[1], -1)).mT
    offset, z, log_dims, rot, velocity = values.split(list(REGRESSION.values()), dim=-1)

    corner = torch.stack([cell % columns, cell // columns], dim=-1)  # x, y
    xy = (corner + offset) * grid.cell + offset.new_tensor(grid.lower[:2])
    yaw = torch.atan2(rot[..., :1], rot[..., 1:])
    dims = log_dims.clamp(-MAX_LOG_DIM, MAX_LOG_DIM).exp()
    boxes = torch.cat([xy, z, dims, yaw, velocity], dim=-1)
    return Candidates(boxes, scores, index // (rows * columns))


@full_precision
def detect(
    prediction: dict[str, Tensor],
    task: CenterTask,
    *,
    grid: BEVGrid,
    max_candidates: int,
    score_threshold: float,
    center_range: Sequence[float],
) -> list[Candidates]:
    """Boxes of one task after NMS, one entry a sample.

    Args:
        prediction: the maps of the task, (B, ..., Y, X).
        score_threshold: boxes that do not score higher are dropped.
        center_range: x, y, z lower, then upper bounds of centers in metres, inclusive.
    """
    candidates = top_candidates(prediction, grid=grid, max_candidates=max_candidates)
    centers, bounds = candidates.boxes[..., :3], candidates.boxes.new_tensor(center_range)
    inside = ((centers >= bounds[:3]) & (centers <= bounds[3:])).all(dim=-1)
    valid = inside & (candidates.scores > score_threshold)
    detections = []
    for sample in range(len(valid)):
        found = candidates[sample][valid[sample]]
        detections.append(found[task.nms(Boxes3D(found.boxes), found.scores, found.classes)])
    return detections
