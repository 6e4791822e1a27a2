"""The road's centre line, and continuous motion of the ego vehicle and of everything else.

Frame: street, x along the road's start, y to its left, z up, metres. Road coordinates (s, l):
s metres along the centre line, l metres to the left of it. Times in seconds from scene start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Pose2D = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Road:
    """A centre line through the origin, of constant curvature (1/m, positive turns left)."""

    curvature: float

    def pose(self, s: ArrayLike, lateral: ArrayLike) -> Pose2D:
        """Road coordinates -> x, y and the road's heading there (rad)."""
        s, lateral = np.asarray(s, dtype=float), np.asarray(lateral, dtype=float)
        heading = self.curvature * s
        if abs(self.curvature) < 1e-9:
            return s, lateral, heading
        radius = 1.0 / self.curvature
        return (
            (radius - lateral) * np.sin(heading),
            radius - (radius - lateral) * np.cos(heading),
            heading,
        )

    def coordinates(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x, y -> (s, l); keeps the dtype. Inverse of ``pose`` for |s| < pi / |curvature|."""
        if abs(self.curvature) < 1e-9:
            return x, y
        radius = x.dtype.type(1.0 / self.curvature)
        sign = np.sign(radius)
        lateral = radius - sign * np.hypot(x, y - radius)
        return radius * np.arctan2(sign * x, sign * (radius - y)), lateral


@dataclass(frozen=True)
class LaneMotion:
    """Along the road at a constant lateral offset: ``s = start + speed t + acceleration t^2 / 2``.

    ``reverse`` objects head against s; ``speed`` and ``acceleration`` are those of s.
    """

    road: Road
    start: float
    lateral: float
    speed: float
    acceleration: float = 0.0
    reverse: bool = False

    def pose(self, t: ArrayLike) -> Pose2D:
        """x, y (m) and heading (rad) at times t."""
        t = np.asarray(t, dtype=float)
        s = self.start + self.speed * t + 0.5 * self.acceleration * t * t
        x, y, heading = self.road.pose(s, np.full_like(s, self.lateral))
        return x, y, heading + (np.pi if self.reverse else 0.0)

    def speed_at(self, t: float) -> float:
        """Absolute speed in m/s."""
        along = self.speed + self.acceleration * t
        return abs(along * (1.0 - self.road.curvature * self.lateral))


@dataclass(frozen=True)
class LineMotion:
    """Straight on along its heading (rad) at constant speed; speed 0 stands still."""

    x: float
    y: float
    heading: float
    speed: float = 0.0

    def pose(self, t: ArrayLike) -> Pose2D:
        """x, y (m) and heading (rad) at times t."""
        t = np.asarray(t, dtype=float)
        way = self.speed * t
        return (
            self.x + way * np.cos(self.heading),
            self.y + way * np.sin(self.heading),
            np.full_like(t, self.heading),
        )

    def speed_at(self, t: float) -> float:
        """Absolute speed in m/s."""
        return self.speed


@dataclass(frozen=True)
class EgoTrajectory:
    """The ego vehicle: linear speed profile along the road, weaving gently in its lane, with a
    little pitch and roll."""

    road: Road
    speed: float
    acceleration: float
    lateral: float
    weave: float
    weave_length: float
    weave_phase: float
    tilt: float

    def distance(self, t: ArrayLike) -> np.ndarray:
        """Metres along the road at times t."""
        t = np.asarray(t, dtype=float)
        return self.speed * t + 0.5 * self.acceleration * t * t

    def pose(self, t: ArrayLike) -> Pose2D:
        """x, y (m) and heading (rad) at times t."""
        s = self.distance(t)
        wave_number = 2 * np.pi / self.weave_length
        phase = wave_number * s + self.weave_phase
        lateral = self.lateral + self.weave * np.sin(phase)
        x, y, heading = self.road.pose(s, lateral)
        slope = self.weave * wave_number * np.cos(phase) / (1 - self.road.curvature * lateral)
        return x, y, heading + np.arctan(slope)

    def ego2street(self, t: float) -> np.ndarray:
        """(4, 4) float64 pose at one time; the ego frame's origin is on the ground."""
        x, y, heading = (float(v) for v in self.pose(t))
        pitch = self.tilt * np.sin(2.1 * t + self.weave_phase)
        roll = 0.6 * self.tilt * np.cos(1.7 * t + self.weave_phase)
        pose = np.eye(4)
        pose[:3, :3] = rotation_z(heading) @ rotation_y(pitch) @ rotation_x(roll)
        pose[:3, 3] = x, y, 0.0
        return pose


def rotation_x(angle: float) -> np.ndarray:
    """(3, 3) rotation about x, rad."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rotation_y(angle: float) -> np.ndarray:
    """(3, 3) rotation about y, rad; positive lowers +x."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def rotation_z(angle: float) -> np.ndarray:
    """(3, 3) rotation about z, rad, counter-clockwise."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
