"""Intersection of rays with oriented boxes, for cameras and lidar.

Shapes: P parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .parts import Parts

#: Minimum ray parameter of a hit, in units of the length of the direction vector.
NEAR = 0.05


@dataclass(frozen=True)
class BoxesInSensor:
    """Boxes relative to a sensor: the sensor in the axes of each box, and the boxes in its frame.

    Attributes:
        origin: (P, 3) float32 sensor position in each box's own axes, metres.
        sensor2box: (P, 3, 3) float32 rotation of ray directions to each box's axes.
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
        """Converts parts of the street frame; ``sensor2street`` is the (4, 4) sensor pose."""
        rotation, position = sensor2street[:3, :3], sensor2street[:3, 3]
        in_sensor = parts.moved(rotation.T, -rotation.T @ position)
        # Boxes are axis-aligned in their own axes, where a ray-box test needs no rotation.
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
    """Intersects rays with an axis-aligned box centred on 0, by the slab method.

    A ray enters the box where it has entered the slabs of all three axes, and misses it if it has
    left one of them before (Kay and Kajiya, "Ray Tracing Complex Scenes", SIGGRAPH 1986).

    Args:
        origin: (3,) common origin of the rays, outside of the box.
        half: (3,) half extents of the box.
        direction: (3, ...) ray directions.

    Returns:
        (...) ray parameter of the entry point, inf for a miss.
    """
    shape = (3,) + (1,) * (direction.ndim - 1)
    # A ray exactly parallel to a slab divides by 0. The infinities add up to a NaN, which fails the
    # comparisons below: the ray counts as a miss.
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.reciprocal(direction)
        middle = inverse * -origin.reshape(shape)
        # In place: this is the inner loop of the renderer.
        reach = np.abs(inverse, out=inverse)
        reach *= half.reshape(shape)
        enter = (middle - reach).max(axis=0)
        middle += reach
        leave = middle.min(axis=0)
    return np.where((enter < leave) & (enter > NEAR), enter, np.float32(np.inf))
