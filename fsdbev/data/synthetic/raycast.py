"""Rays against oriented boxes, for the cameras and for the lidar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .parts import Parts

#: Nearer surfaces (in units of the ray's length) do not count.
NEAR = 0.05


@dataclass(frozen=True)
class BoxesInSensor:
    """Boxes as a sensor's rays see them.

    Attributes:
        origin: (P, 3) float32 sensor position in each box's own axes, metres.
        sensor2box: (P, 3, 3) float32 rotation of ray directions to the box's axes.
        half: (P, 3) float32 half extents, metres.
        center: (P, 3) float64 box centres in the sensor frame.
        corners: (P, 8, 3) float64 corners in the sensor frame.
    """

    origin: np.ndarray
    sensor2box: np.ndarray
    half: np.ndarray
    center: np.ndarray
    corners: np.ndarray

    @classmethod
    def of(cls, parts: Parts, sensor2street: np.ndarray) -> BoxesInSensor:
        """Boxes of the street frame seen from a (4, 4) sensor pose."""
        rotation, position = sensor2street[:3, :3], sensor2street[:3, 3]
        in_sensor = parts.moved(rotation.T, -rotation.T @ position)
        sensor2box = np.swapaxes(in_sensor.rotation, 1, 2)
        origin = -(sensor2box @ in_sensor.center[..., None])[..., 0]
        return cls(
            origin.astype(np.float32),
            sensor2box.astype(np.float32),
            parts.half.astype(np.float32),
            in_sensor.center,
            in_sensor.corners(),
        )


def hit_box(origin: np.ndarray, half: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Where rays enter an axis-aligned box around 0, by slabs.

    (3,) ray origin outside the box, (3,) half extents, (3, ...) directions -> (...) ray parameter,
    inf for a miss.
    """
    shape = (3,) + (1,) * (direction.ndim - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.reciprocal(direction)
        middle = inverse * -origin.reshape(shape)
        reach = np.abs(inverse, out=inverse)
        reach *= half.reshape(shape)
        enter = (middle - reach).max(axis=0)
        middle += reach
        leave = middle.min(axis=0)
    return np.where((enter < leave) & (enter > NEAR), enter, np.float32(np.inf))
