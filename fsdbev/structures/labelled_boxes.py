"""Boxes with classes and scores: what a model finds and what is really there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .boxes import Boxes3D


@dataclass(frozen=True)
class LabelledBoxes:
    """M boxes with their classes.

    Attributes:
        boxes: M boxes in key ego.
        labels: (M,) int64 class indices.
        scores: (M,) confidences; None for ground truth.
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
        """Those of a mask or of indices."""
        scores = None if self.scores is None else self.scores[which]
        return LabelledBoxes(self.boxes[which], self.labels[which], scores)

    def to(self, device: torch.device | str) -> LabelledBoxes:
        """The same on another device."""
        scores = None if self.scores is None else self.scores.to(device)
        return LabelledBoxes(self.boxes.to(device), self.labels.to(device), scores)

    def at_least(self, threshold: float) -> LabelledBoxes:
        """Those that score ``threshold`` or more; all where there are no scores."""
        return self if self.scores is None else self[self.scores >= threshold]

    def records(self, class_names: Sequence[str]) -> list[dict[str, Any]]:
        """Plain values, ready for JSON: of every box ``class``, ``score`` (where there is one),
        ``center`` (x, y, z), ``size`` (length, width, height), ``yaw`` and ``velocity`` (along x
        and y); metres, rad, m/s."""
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
        """Indices, best score first; without scores, nearest to the ego first."""
        if self.scores is not None:
            return torch.sort(self.scores, descending=True, stable=True).indices.tolist()
        return torch.sort(self.boxes.centers[:, :2].norm(dim=1), stable=True).indices.tolist()
