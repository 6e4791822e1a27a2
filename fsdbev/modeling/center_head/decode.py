"""Decoding of head maps to boxes: top-scoring cells, box decoding, non-maximum suppression in BEV.

Rules of docs/model.md, "Head, targets, decoding".

Shapes: B batch, T tasks, M candidates per task, K kept slots per task, Y, X BEV cells.
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
from fsdbev.structures import BEVGrid, Boxes3D, ClassSet

from .targets import REGRESSION

#: NMS of a task considers the ``NMS_INPUT`` best boxes and keeps at most ``NMS_OUTPUT``. These are
#: the release's numbers; its six tasks of 83 stay below nuScenes' limit of 500 boxes per sample.
NMS_INPUT, NMS_OUTPUT = 1000, 83
#: Bound of predicted log sizes: 2.5 mm to 403 m. Keeps the boxes of an untrained head finite.
MAX_LOG_DIM = 6.0


@dataclass(frozen=True)
class Candidates:
    """Slots for boxes, so that tensors keep their sizes. A score of -inf marks an empty slot.

    Attributes:
        boxes: (..., M, 9) x, y, z, l, w, h, yaw, vx, vy in the frame of the grid.
        scores: (..., M).
        classes: (..., M) int64.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def __getitem__(self, item) -> Candidates:
        return Candidates(self.boxes[item], self.scores[item], self.classes[item])


class BoxDecoder(nn.Module):
    """Decodes the head maps of all tasks to boxes: top-scoring cells, then NMS. Runs in float32.

    Args:
        classes: the classes; each of their groups is a task with its own NMS.
        grid: the BEV grid of the maps.
        max_candidates: number of cells per task and sample that become boxes.
        score_threshold: boxes must have a higher score.
        center_range: lower x, y, z and upper x, y, z of centers, metres, inclusive.
    """

    def __init__(
        self,
        *,
        classes: ClassSet,
        grid: BEVGrid,
        max_candidates: int,
        score_threshold: float,
        center_range: Sequence[float],
    ) -> None:
        super().__init__()
        self.grid = grid
        self.max_candidates, self.score_threshold = max_candidates, score_threshold
        self.center_range = tuple(center_range)

        groups = classes.groups
        circle = [group.center_distance is not None for group in groups]
        # The kernel compares squared distances.
        threshold = [
            group.center_distance**2 if is_circle else group.iou_threshold
            for group, is_circle in zip(groups, circle, strict=True)
        ]
        dim_scale = [scale for group in groups for scale in group.dim_scale]
        # The first two have one entry per task, the others one per class in the order of the tasks.
        # Thresholds are float64, as is the IoU that they are compared with.
        constants = {
            "is_circle": torch.tensor(circle),
            "nms_threshold": torch.tensor(threshold, dtype=torch.float64),
            "dim_scale": torch.tensor(dim_scale, dtype=torch.float64),
            "class_ids": torch.tensor([i for ids in classes.group_ids for i in ids]),
        }
        # Not saved in checkpoints, since they follow from the config.
        for name, values in constants.items():
            self.register_buffer(name, values, persistent=False)

    # In float32: bfloat16 has steps of 0.25 m at 50 m.
    @full_precision
    def forward(self, predictions: Sequence[dict[str, Tensor]]) -> list[Candidates]:
        """Decodes the boxes of each sample.

        Synchronises with the device once, to read the numbers of boxes.

        Args:
            predictions: maps (B, channels, Y, X) of each task by name of the branch.

        Returns:
            Boxes of each sample, by task and by descending score within a task.
        """
        candidates = top_candidates(predictions, grid=self.grid, max_candidates=self.max_candidates)
        candidates = self.drop_invalid(candidates)
        keep, num_kept = self.suppress(candidates)
        found = gather_kept(candidates, keep)
        # Only now, since NMS looks up dim_scale by the place of a class in the order of the tasks.
        found = replace(found, classes=self.class_ids[found.classes])
        return [found[b, :count] for b, count in enumerate(num_kept.sum(dim=1).tolist())]

    def drop_invalid(self, candidates: Candidates) -> Candidates:
        """Sets the score of boxes below the threshold or outside the range to -inf."""
        valid = candidates.scores > self.score_threshold
        bounds = zip(self.center_range[:3], self.center_range[3:], strict=True)
        for i, (lower, upper) in enumerate(bounds):
            valid &= (candidates.boxes[..., i] >= lower) & (candidates.boxes[..., i] <= upper)
        return replace(candidates, scores=candidates.scores.masked_fill(~valid, -math.inf))

    def suppress(self, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Applies the NMS of each task.

        Args:
            candidates: (B, T, M) candidates.

        Returns:
            (B, T, NMS_OUTPUT) indices of the kept slots, best first, padded with -1, and (B, T)
            numbers of kept slots.
        """
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
    """Decodes the ``max_candidates`` best cells of every sample and task.

    Args:
        predictions: maps (B, channels, Y, X) of each task by name of the branch.
        grid: the BEV grid of the maps.
        max_candidates: M.

    Returns:
        (B, T, M) candidates. ``classes`` number the classes of all tasks in order.
    """
    rows, columns = grid.shape
    best, first_class = [], 0
    for prediction in predictions:
        heatmap = prediction["heatmap"].sigmoid().flatten(1)
        # The release takes the best cells of each class, then the best of these. One top-k over all
        # classes selects the same set.
        scores, index = heatmap.topk(min(max_candidates, heatmap.shape[1]))
        padding = (0, max_candidates - scores.shape[1])  # for maps with fewer cells
        scores, index = F.pad(scores, padding, value=-math.inf), F.pad(index, padding)
        cells, classes = index % (rows * columns), index // (rows * columns) + first_class
        first_class += prediction["heatmap"].shape[1]
        values = [
            prediction[branch].flatten(2).gather(2, cells[:, None].expand(-1, channels, -1))
            for branch, channels in REGRESSION.items()
        ]
        best.append((scores, classes, cells, torch.cat(values, dim=1)))
    scores, classes, cells, values = (torch.stack(each, dim=1) for each in zip(*best))
    return Candidates(_decode_boxes(cells, values.mT, grid), scores, classes)


def _decode_boxes(cells: Tensor, values: Tensor, grid: BEVGrid) -> Tensor:
    """Decodes (..., 9) boxes from (...) cells ``y * X + x`` and (..., 10) values of branches."""
    offset, z, log_dims, rot, velocity = values.split(list(REGRESSION.values()), dim=-1)
    x = (cells % grid.shape[1] + offset[..., 0]) * grid.cell + grid.lower[0]
    y = (cells // grid.shape[1] + offset[..., 1]) * grid.cell + grid.lower[1]
    dims = log_dims.clamp(-MAX_LOG_DIM, MAX_LOG_DIM).exp()
    yaw = torch.atan2(rot[..., :1], rot[..., 1:])
    return torch.cat([torch.stack([x, y], dim=-1), z, dims, yaw, velocity], dim=-1)


def gather_kept(candidates: Candidates, keep: Tensor) -> Candidates:
    """Moves the kept candidates of all tasks to the front.

    Args:
        candidates: (B, T, M) candidates.
        keep: (B, T, K) indices of the kept slots, padded with -1.

    Returns:
        (B, T * K) candidates: the kept ones by task, then arbitrary ones.
    """
    batch, tasks, slots = candidates.scores.shape
    first_slot = torch.arange(0, tasks * slots, slots, device=keep.device)
    # A stable sort that moves padding to the end. Boolean indexing would make the host wait for the
    # size of its result.
    order = (keep < 0).flatten(1).byte().argsort(dim=1, stable=True)
    # The clamp turns padding into valid indices; callers cut it off by the number of kept boxes.
    kept = (keep.clamp(min=0) + first_slot[:, None]).flatten(1).gather(1, order)
    flat = Candidates(
        candidates.boxes.flatten(1, 2), candidates.scores.flatten(1), candidates.classes.flatten(1)
    )
    return flat[torch.arange(batch, device=keep.device)[:, None], kept]
