"""Homogeneous 4x4 transforms. ``a2b`` takes column vectors of frame a to frame b.

Every function works on leading batch dimensions and keeps dtype and device of its input.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)

#: No pixel or metre is beyond: in float64 a sum with it is still exact to a micrometre.
MAX_COORDINATE = 1e9


def make_transform(rotation: Tensor, translation: Tensor | None = None) -> Tensor:
    """(..., 3, 3) linear part and (..., 3) translation (zero if not given) -> (..., 4, 4)."""
    if rotation.shape[-2:] != (3, 3):
        raise ValueError(f"rotation must be (..., 3, 3), got {tuple(rotation.shape)}")
    a2b = rotation.new_zeros(*rotation.shape[:-2], 4, 4)
    a2b[..., :3, :3] = rotation
    a2b[..., 3, 3] = 1
    if translation is not None:
        a2b[..., :3, 3] = translation
    return a2b


def rotation_z(angle: Tensor) -> Tensor:
    """(...) counter-clockwise angles in rad -> (..., 3, 3) rotations about z."""
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rows = (cos, -sin, zero, sin, cos, zero, zero, zero, one)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def transform_points(points: Array, a2b: Array) -> Array:
    """(..., M, 3) points of frame a, (..., 4, 4) -> (..., M, 3) points of frame b; also of NumPy
    arrays."""
    return points @ a2b[..., :3, :3].swapaxes(-1, -2) + a2b[..., None, :3, 3]


def invert(a2b: Tensor) -> Tensor:
    """(..., 4, 4) affine a2b -> b2a, exactly affine (last row 0 0 0 1)."""
    linear = torch.linalg.inv(a2b[..., :3, :3])
    return make_transform(linear, -(linear @ a2b[..., :3, 3:]).squeeze(-1))


def is_rotation(matrix: Tensor, tolerance: float = 1e-3) -> Tensor:
    """(...) which (..., 3, 3) matrices are rotations, up to ``tolerance`` in the entries of the
    matrix times its transpose: what rounding in a calibration file leaves."""
    error = (matrix @ matrix.mT - torch.eye(3).to(matrix)).abs().amax(dim=(-1, -2))
    x, y, z = matrix.unbind(dim=-2)
    return (error <= tolerance) & ((torch.linalg.cross(x, y) * z).sum(dim=-1) > 0)  # nor NaN


def is_rigid(a2b: Tensor, tolerance: float = 1e-3) -> Tensor:
    """(...) which (..., 4, 4) matrices are a rotation, see :func:`is_rotation`, and a translation
    within ``MAX_COORDINATE`` along each axis."""
    affine = (a2b[..., 3, :] == a2b.new_tensor([0.0, 0.0, 0.0, 1.0])).all(dim=-1)
    in_range = (a2b[..., :3, 3].abs() <= MAX_COORDINATE).all(dim=-1)  # nor NaN
    return affine & in_range & is_rotation(a2b[..., :3, :3], tolerance)
