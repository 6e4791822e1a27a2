"""Homogeneous 4x4 transforms. ``a2b`` maps column vectors of frame a to frame b.

Shapes: M points; "..." stands for any leading batch dimensions.

All functions keep dtype and device of their input (docs/model.md, "Frames of reference").
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)

#: Largest absolute coordinate that is accepted, pixels or metres. Up to this value float64 resolves
#: a micrometre.
MAX_COORDINATE = 1e9


def make_transform(rotation: Tensor, translation: Tensor | None = None) -> Tensor:
    """Composes (..., 4, 4) transforms.

    Args:
        rotation: (..., 3, 3) linear part.
        translation: (..., 3); zero if None.

    Raises:
        ValueError: ``rotation`` is not (..., 3, 3).
    """
    if rotation.shape[-2:] != (3, 3):
        raise ValueError(f"rotation must be (..., 3, 3), got {tuple(rotation.shape)}")
    a2b = rotation.new_zeros(*rotation.shape[:-2], 4, 4)
    a2b[..., :3, :3] = rotation
    a2b[..., 3, 3] = 1
    if translation is not None:
        a2b[..., :3, 3] = translation
    return a2b


def rotation_z(angle: Tensor) -> Tensor:
    """Returns (..., 3, 3) rotations about z.

    Args:
        angle: (...) counter-clockwise angles, rad.
    """
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = (cos, -sin, zero, sin, cos, zero, zero, zero, one)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def transform_points(points: Array, a2b: Array) -> Array:
    """Transforms points from frame a to frame b; tensors or NumPy arrays.

    Args:
        points: (..., M, 3) in frame a.
        a2b: (..., 4, 4) affine transform.

    Returns:
        (..., M, 3) in frame b.
    """
    # swapaxes, which both kinds of arrays have; NumPy has mT only since version 2.
    return points @ a2b[..., :3, :3].swapaxes(-1, -2) + a2b[..., None, :3, 3]


def invert(a2b: Tensor) -> Tensor:
    """Inverts (..., 4, 4) affine transforms."""
    # The inverse of the 4x4 matrix would have a last row that is 0 0 0 1 only up to rounding.
    linear = torch.linalg.inv(a2b[..., :3, :3])
    return make_transform(linear, -(linear @ a2b[..., :3, 3:]).squeeze(-1))


def is_rotation(matrix: Tensor, tolerance: float = 1e-3) -> Tensor:
    """Checks for rotations: orthonormal, with determinant +1.

    Args:
        matrix: (..., 3, 3).
        tolerance: largest error of the entries of ``matrix @ matrix.T``; the default admits the
            rounding of calibration files.

    Returns:
        (...) bool.
    """
    error = (matrix @ matrix.mT - torch.eye(3).to(matrix)).abs().amax(dim=(-1, -2))
    x, y, z = matrix.unbind(dim=-2)
    # The triple product is the determinant; mirrored axes make it negative. NaN fails both tests.
    return (error <= tolerance) & ((torch.linalg.cross(x, y) * z).sum(dim=-1) > 0)


def is_rigid(a2b: Tensor, tolerance: float = 1e-3) -> Tensor:
    """Checks for rigid transforms: a rotation, and a translation within ``MAX_COORDINATE``.

    Args:
        a2b: (..., 4, 4).
        tolerance: see :func:`is_rotation`.

    Returns:
        (...) bool.
    """
    affine = (a2b[..., 3, :] == a2b.new_tensor([0.0, 0.0, 0.0, 1.0])).all(dim=-1)
    in_range = (a2b[..., :3, 3].abs() <= MAX_COORDINATE).all(dim=-1)  # false for NaN
    return affine & in_range & is_rotation(a2b[..., :3, :3], tolerance)
