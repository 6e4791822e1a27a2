"""Boxes with classes and scores: detections and ground truth.

Shapes: M boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .boxes import Boxes3D


@dataclass(frozen=True)
class LabelledBoxes:
    """M boxes with classes, and scores for detections.

    Attributes:
        boxes: M boxes in key ego.
        labels: (M,) int64 class indices.
        scores: (M,) confidences; None for ground truth.

    Raises:
        ValueError: the lengths differ.
    """

    boxes: Boxes3D
    labels: Tensor
    scores: Tensor | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.boxes), len(self.labels)}
        if self.scores is not None:
            lengths.add(len(self.scores))
        if len(lengths) > 1:
            raise ValueError(f"boxes, labels and scores differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, which: Tensor) -> LabelledBoxes:
        """Returns the boxes that a mask or an index tensor selects."""
        scores = None if self.scores is None else self.scores[which]
        return LabelledBoxes(self.boxes[which], self.labels[which], scores)

    def to(self, device: torch.device | str) -> LabelledBoxes:
        """Returns a copy on ``device``."""
        scores = None if self.scores is None else self.scores.to(device)
        return LabelledBoxes(self.boxes.to(device), self.labels.to(device), scores)

    def at_least(self, threshold: float) -> LabelledBoxes:
        """Returns the boxes of score ``threshold`` or more; all boxes for ground truth."""
        return self if self.scores is None else self[self.scores >= threshold]

    def records(self, class_names: Sequence[str]) -> list[dict[str, Any]]:
        """Converts the boxes to dicts of plain numbers for JSON.

        Args:
            class_names: names of the class indices.

        Returns:
            For each box ``class``, ``center`` (x, y, z), ``size`` (length, width, height), ``yaw``,
            ``velocity`` (vx, vy) and for detections ``score``; key ego frame, metres, rad, m/s.
        """
        boxes = self.boxes.tensor.double().tolist()
        found = []
        for box, label in zip(boxes, self.labels.tolist(), strict=True):
            numbers = {"center": box[:3], "size": box[3:6], "yaw": box[6], "velocity": box[7:9]}
            found.append({"class": class_names[label], **numbers})
        if self.scores is not None:
            for record, score in zip(found, self.scores.tolist(), strict=True):
                record["score"] = score
        return found

    def by_priority(self) -> list[int]:
        """Returns the box indices by descending score, for ground truth by distance from the ego
        vehicle."""
        # Stable sorts, so that ties keep the order of the boxes.
        if self.scores is not None:
            return torch.sort(self.scores, descending=True, stable=True).indices.tolist()
        return torch.sort(self.boxes.centers[:, :2].norm(dim=1), stable=True).indices.tolist()
