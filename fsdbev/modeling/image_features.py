"""What a frame's images say before any camera is looked at.

Shapes: V images (samples x cameras), C channels, (h, w) map of the depth network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageFeatures:
    """Image features of one frame; all that a stream keeps of it. A model that needs more than this
    adds fields of (V, ...) tensors.

    Attributes:
        features: (V, C, h, w) input of the depth network.
        foreground: (V, h, w) foreground probability, the mask of the view transform. None where the
            images alone do not say.
        logits: what the foreground loss is taken on; its shape is its module's own. None where
            nothing is to be learnt from the frame.
    """

    features: Tensor
    foreground: Tensor | None = None
    logits: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> ImageFeatures:
        """The same with ``function`` of every tensor."""
        return replace(self, **{name: function(value) for name, value in self._tensors().items()})

    def chunk(self, count: int) -> list[ImageFeatures]:
        """``count`` parts of equally many images."""
        parts = {name: value.chunk(count) for name, value in self._tensors().items()}
        return [
            replace(self, **{n: values[i] for n, values in parts.items()}) for i in range(count)
        ]

    @staticmethod
    def cat(parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """All images of ``parts``, which have the same fields; a single one as it is."""
        if len(parts) == 1:
            return parts[0]
        names = parts[0]._tensors()
        return replace(parts[0], **{n: torch.cat([getattr(p, n) for p in parts]) for n in names})

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}
