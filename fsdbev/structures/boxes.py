"""Boxes3D: 3D boxes with velocity, in the key ego frame unless stated otherwise.

Shapes: M boxes, P points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from .rigid_transforms import Array, rotation_z, transform_points

#: Numbers of a box: x, y, z, l, w, h, yaw, vx, vy.
BOX_DIM = 9
#: (8, 3) offsets of the corners from the centre in units of the size; bits 4, 2, 1 of a corner's
#: index select the side at +l/2, +w/2, +h/2.
_CORNER_OFFSETS = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)]) - 0.5
#: (12, 2) corner indices of each edge; the two indices differ in one bit.
BOX_EDGES = np.array([(i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit])


def box_corners(center: Array, size: Array, rotation: Array) -> Array:
    """Computes the corners of boxes.

    Args:
        center: (M, 3) centres of gravity, metres.
        size: (M, 3) length, width, height, metres.
        rotation: (M, 3, 3) box axes -> frame of ``center``.

    Returns:
        (M, 8, 3) corners in the frame of ``center``, in the dtype of the arguments.
    """
    is_tensor = isinstance(size, Tensor)
    offsets = size.new_tensor(_CORNER_OFFSETS) if is_tensor else _CORNER_OFFSETS.astype(size.dtype)
    return (offsets * size[:, None]) @ rotation.swapaxes(-1, -2) + center[:, None]


class Boxes3D:
    """(M, 9) boxes ``x, y, z, l, w, h, yaw, vx, vy`` (docs/model.md, "Frames of reference").

    Centre of gravity and size (length along the heading) in metres, yaw in rad counter-clockwise
    from +x, velocity in m/s along the axes of the same frame. Can be a field of ``Instances``.
    """

    def __init__(self, tensor: Tensor) -> None:
        """
        Args:
            tensor: (M, 9) boxes; integers become float32. A tensor without elements of any shape
                means no boxes.

        Raises:
            ValueError: the shape is not (M, 9).
        """
        tensor = torch.as_tensor(tensor)
        if not tensor.is_floating_point():
            tensor = tensor.float()
        # torch.as_tensor([]), for one, has the shape (0,).
        if tensor.numel() == 0:
            tensor = tensor.reshape(0, BOX_DIM)
        if tensor.dim() != 2 or tensor.shape[1] != BOX_DIM:
            raise ValueError(f"Boxes3D needs an (M, 9) tensor, got {tuple(tensor.shape)}")
        self.tensor = tensor

    @property
    def centers(self) -> Tensor:
        """(M, 3) centres of gravity, metres."""
        return self.tensor[:, 0:3]

    @property
    def dims(self) -> Tensor:
        """(M, 3) length, width, height, metres."""
        return self.tensor[:, 3:6]

    @property
    def yaw(self) -> Tensor:
        """(M,) heading, rad."""
        return self.tensor[:, 6]

    @property
    def velocity(self) -> Tensor:
        """(M, 2) vx, vy, m/s."""
        return self.tensor[:, 7:9]

    @property
    def bev(self) -> Tensor:
        """(M, 5) x, y, l, w, yaw, the input of rotated NMS."""
        return self.tensor[:, [0, 1, 3, 4, 6]]

    def corners(self) -> Tensor:
        """Returns the (M, 8, 3) corners in metres, in the order of :func:`box_corners`."""
        return box_corners(self.centers, self.dims, rotation_z(self.yaw))

    def transformed(self, a2b: Tensor) -> Boxes3D:
        """Returns the boxes in frame b; centre, size, yaw and velocity are transformed.

        Args:
            a2b: (4, 4) similarity that keeps z upright: rotation about z, uniform scale, flips of x
                or y, translation.
        """
        a2b = a2b.to(self.tensor)
        linear = a2b[:2, :2]
        scale = a2b[2, 2].abs()
        # A flip reverses the sense of rotation, so the heading is transformed as a vector instead
        # of adding an angle to the yaw.
        heading = torch.stack([self.yaw.cos(), self.yaw.sin()], dim=-1) @ linear.mT
        out = torch.empty_like(self.tensor)
        out[:, 0:3] = transform_points(self.centers, a2b)
        out[:, 3:6] = self.dims * scale
        out[:, 6] = torch.atan2(heading[:, 1], heading[:, 0])
        out[:, 7:9] = self.velocity @ linear.mT
        return Boxes3D(out)

    def contain(self, points: Tensor) -> Tensor:
        """Returns a (P, M) mask: point p is inside or on the surface of box m.

        Args:
            points: (P, 3) points in the frame of the boxes, metres.
        """
        # A row vector times a rotation is rotated by its inverse, here to the axes of the box.
        local = (points[:, None, :] - self.centers[None]).unsqueeze(-2) @ rotation_z(self.yaw)
        return (local.squeeze(-2).abs() <= self.dims / 2).all(dim=-1)

    def with_yaw_in_range(self) -> Boxes3D:
        """Returns the same boxes with yaw in [-pi, pi)."""
        out = self.tensor.clone()
        # remainder, since fmod keeps the sign of a negative angle.
        out[:, 6] = torch.remainder(out[:, 6] + math.pi, 2 * math.pi) - math.pi
        return Boxes3D(out)

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def to(self, *args, **kwargs) -> Boxes3D:
        return Boxes3D(self.tensor.to(*args, **kwargs))

    def clone(self) -> Boxes3D:
        return Boxes3D(self.tensor.clone())

    @staticmethod
    def cat(boxes: Sequence[Boxes3D]) -> Boxes3D:
        """Concatenates boxes in order; an empty sequence yields no boxes."""
        return Boxes3D(torch.cat([b.tensor for b in boxes]) if boxes else torch.zeros(0, BOX_DIM))

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, item: int | slice | Tensor) -> Boxes3D:
        if isinstance(item, int):  # as Detectron2's Boxes: one box, still two-dimensional
            return Boxes3D(self.tensor[item][None])
        return Boxes3D(self.tensor[item])

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensor)

    def __repr__(self) -> str:
        return f"Boxes3D({self.tensor})"
