"""BEV augmentation: random transforms of the key ego frame, applied to points and boxes.

The augmentation is that of BEVDet (arXiv:2112.11790); see docs/model.md, "Training data".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsdbev.structures import flip_probabilities


def bev_transform(
    *, rotation: float, scale: float, flip_x: bool, flip_y: bool
) -> NDArray[np.float64]:
    """Returns the matrix ``flip @ (scale * rotation about z)``.

    Args:
        rotation: counter-clockwise rotation, degrees.
        scale: scale of all three axes.
        flip_x, flip_y: whether to negate x, y.

    Returns:
        (4, 4) float64, key ego -> augmented key ego.
    """
    angle = math.radians(rotation)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.diag([1, 1, scale, 1.0])
    matrix[:2, :2] = np.diag([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0]) @ (scale * turn)
    return matrix


class BEVAugmentation:
    """Draws BEV transforms.

    Args:
        max_rotation: the rotation about z is drawn uniformly from +- this angle, degrees.
        scale: range of the scale, drawn uniformly.
        flip_prob: probability of a flip, for x and y independently; or one for x and one for y.

    Raises:
        ValueError: ``scale`` is not an increasing positive range, or ``flip_prob`` is no
            probability.
    """

    def __init__(
        self,
        *,
        max_rotation: float = 22.5,
        scale: tuple[float, float] = (0.95, 1.05),
        flip_prob: float | Sequence[float] = 0.5,
    ) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be an increasing positive range, got {tuple(scale)}")
        self.max_rotation = max_rotation
        self.scale = tuple(scale)
        self.flip_prob = flip_probabilities(flip_prob)

    def sample(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draws a transform; see :func:`bev_transform`."""
        # The order of the arguments is that of the draws, which defines the transform of a seed.
        return bev_transform(
            rotation=generator.uniform(-self.max_rotation, self.max_rotation),
            scale=generator.uniform(*self.scale),
            flip_x=bool(generator.random() < self.flip_prob[0]),
            flip_y=bool(generator.random() < self.flip_prob[1]),
        )
