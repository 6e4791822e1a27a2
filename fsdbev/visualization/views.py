"""What the pictures are made of: camera views and labelled boxes. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fsdbev.structures import Boxes3D


@dataclass(frozen=True)
class CameraView:
    """One camera's picture and calibration.

    Attributes:
        name: shown in the picture's corner.
        image: (H, W, 3) uint8 RGB.
        cam2keyego: (4, 4) camera to key ego, metres.
        intrinsics: (3, 3) of this image, pixels.
    """

    name: str
    image: np.ndarray
    cam2keyego: Tensor
    intrinsics: Tensor

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"{self.name}: image must be (H, W, 3), got {self.image.shape}")


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

    def at_least(self, threshold: float) -> LabelledBoxes:
        """Those that score ``threshold`` or more; all where there are no scores."""
        if self.scores is None:
            return self
        keep = torch.nonzero(self.scores >= threshold).squeeze(1)
        return LabelledBoxes(self.boxes[keep], self.labels[keep], self.scores[keep])

    def by_priority(self) -> list[int]:
        """Indices, best score first; without scores, nearest to the ego first."""
        if self.scores is not None:
            return torch.sort(self.scores, descending=True, stable=True).indices.tolist()
        return torch.sort(self.boxes.centers[:, :2].norm(dim=1), stable=True).indices.tolist()
