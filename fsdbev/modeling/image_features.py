"""Image features of a frame, the part of the network that is independent of calibration.

Shapes: V images (samples x cameras), C channels, (h, w) size of the depth network's map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageFeatures:
    """Image features of one frame.

    Independent of camera poses, so that a stream caches them for later key frames. Subclasses add
    fields; every field is a (V, ...) tensor or None.

    Attributes:
        features: (V, C, h, w) output of the depth network's ``embed``, or its input before that.
        foreground: (V, h, w) foreground probability, the mask of the view transform. None for
            models without a foreground branch on the image features.
        logits: input of the foreground loss; its shape depends on the foreground branch. None
            without such a loss.
    """

    features: Tensor
    foreground: Tensor | None = None
    logits: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> ImageFeatures:
        """Returns a copy with ``function`` applied to every tensor."""
        return replace(self, **{name: function(value) for name, value in self._tensors().items()})

    def split(self, sizes: Sequence[int]) -> list[ImageFeatures]:
        """Splits the images into parts of these sizes."""
        parts = {name: value.split(list(sizes)) for name, value in self._tensors().items()}
        return [
            replace(self, **{n: values[i] for n, values in parts.items()})
            for i in range(len(sizes))
        ]

    @staticmethod
    def cat(parts: Sequence[ImageFeatures]) -> ImageFeatures:
        """Concatenates the images of ``parts``, which have the same fields."""
        if len(parts) == 1:  # torch.cat would copy
            return parts[0]
        names = parts[0]._tensors()
        return replace(parts[0], **{n: torch.cat([getattr(p, n) for p in parts]) for n in names})

    def _tensors(self) -> dict[str, Tensor]:
        # Not dataclasses.asdict, which copies tensors.
        return {name: value for name, value in vars(self).items() if value is not None}
