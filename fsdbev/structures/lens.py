"""Lens: the distortion of a camera's images, in OpenCV's models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .cameras import INTRINSICS_RULE, is_intrinsics

#: Model -> allowed numbers of coefficients.
LENS_MODELS = {"radial_tangential": (4, 5, 8, 12, 14), "fisheye": (4,)}


@dataclass(frozen=True, eq=False)
class Lens:
    """Distortion of the images as the camera records them. Equal lenses have equal hashes.

    Attributes:
        model: ``"radial_tangential"`` or ``"fisheye"``, the models of OpenCV's modules calib3d and
            fisheye.
        intrinsics: (3, 3) float64 of the distorted images, pixels, read-only.
        coefficients: in OpenCV's order. radial_tangential: k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4
            [tx ty]]]]; fisheye: k1 k2 k3 k4.

    Raises:
        ValueError: the model is unknown, has another number of coefficients, a coefficient is not
            finite, or the intrinsics are invalid.
    """

    model: str
    intrinsics: NDArray[np.float64]
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        # A value from a file may be of a type without a hash.
        if self.model not in list(LENS_MODELS):
            raise ValueError(f"a lens model is {' or '.join(LENS_MODELS)}, got {self.model!r}")
        # The dataclass is frozen, so its own __setattr__ raises an error.
        object.__setattr__(self, "coefficients", tuple(map(float, self.coefficients)))
        object.__setattr__(self, "intrinsics", _checked_intrinsics(self.intrinsics))
        counts = LENS_MODELS[self.model]
        if len(self.coefficients) not in counts:
            raise ValueError(
                f"a {self.model} lens has {' or '.join(map(str, counts))} coefficients, got "
                f"{len(self.coefficients)}: {list(self.coefficients)}"
            )
        if not np.isfinite(self.coefficients).all():
            raise ValueError(
                f"coefficients of a lens must be finite, got {list(self.coefficients)}"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lens) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, bytes, tuple[float, ...]]:
        # An array has no hash, and == compares its entries.
        return self.model, self.intrinsics.tobytes(), self.coefficients


def _checked_intrinsics(values: ArrayLike) -> NDArray[np.float64]:
    """Returns a read-only copy of the intrinsics."""
    matrix = np.array(values, np.float64)
    valid = matrix.shape == (3, 3) and bool(is_intrinsics(torch.from_numpy(matrix)))
    # OpenCV's models have no skew and ignore these entries.
    if not valid or matrix[0, 1] or matrix[1, 0]:
        raise ValueError(f"{INTRINSICS_RULE}, got {matrix.tolist()}")
    matrix.setflags(write=False)
    return matrix
