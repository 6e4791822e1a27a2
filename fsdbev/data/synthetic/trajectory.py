"""Centre line of the road, and continuous motion of the ego vehicle and of all objects.

Frames: street, with the origin at the start of the centre line, x along it, y to its left, z up,
metres. Road coordinates (s, lateral): s metres along the centre line, ``lateral`` metres to its
left. Angles in rad, counter-clockwise. Times in seconds from scene start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

#: x, y (m) and heading (rad), each of the shape of the times or road coordinates.
Pose2D = tuple[np.ndarray, np.ndarray, np.ndarray]
#: Curvature in 1/m below which a road counts as straight, to avoid a division by 0.
_STRAIGHT = 1e-9


@dataclass(frozen=True)
class Road:
    """A centre line through the origin, of constant curvature (1/m, positive turns left)."""

    curvature: float

    def pose(self, s: ArrayLike, lateral: ArrayLike) -> Pose2D:
        """Converts road coordinates to x, y (m) and the heading (rad) of the road at s."""
        s, lateral = np.asarray(s, dtype=float), np.asarray(lateral, dtype=float)
        heading = self.curvature * s
        if abs(self.curvature) < _STRAIGHT:
            return s, lateral, heading
        radius = 1.0 / self.curvature
        return (
            (radius - lateral) * np.sin(heading),
            radius - (radius - lateral) * np.cos(heading),
            heading,
        )

    def coordinates(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Converts street coordinates x, y to (s, lateral) in metres and keeps their dtype.

        Inverse of ``pose`` for |s| < pi / |curvature|.
        """
        if abs(self.curvature) < _STRAIGHT:
            return x, y
        # Cast to the dtype of x: a float64 radius would promote float32 pixels to float64.
        radius = x.dtype.type(1.0 / self.curvature)
        sign = np.sign(radius)
        lateral = radius - sign * np.hypot(x, y - radius)
        return radius * np.arctan2(sign * x, sign * (radius - y)), lateral


@dataclass(frozen=True)
class LaneMotion:
    """Motion along the road at a constant lateral offset.

    ``s = start + speed t + acceleration t^2 / 2``.

    Attributes:
        road: centre line.
        start: s at t = 0, metres.
        lateral: offset to the left of the centre line, metres.
        speed: derivative of s at t = 0, m/s; negative against the direction of s.
        acceleration: second derivative of s, m/s^2.
        reverse: whether the object faces against the direction of s.
    """

    road: Road
    start: float
    lateral: float
    speed: float
    acceleration: float = 0.0
    reverse: bool = False

    def pose(self, t: ArrayLike) -> Pose2D:
        """Returns x, y (m) and heading (rad) at times t."""
        t = np.asarray(t, dtype=float)
        s = self.start + self.speed * t + 0.5 * self.acceleration * t * t
        x, y, heading = self.road.pose(s, np.full_like(s, self.lateral))
        return x, y, heading + (np.pi if self.reverse else 0.0)

    def speed_at(self, t: float) -> float:
        """Returns the absolute speed at time t, m/s."""
        along = self.speed + self.acceleration * t
        # The path at a lateral offset has another radius than the centre line.
        return abs(along * (1.0 - self.road.curvature * self.lateral))


@dataclass(frozen=True)
class LineMotion:
    """Motion along a straight line at constant speed.

    Attributes:
        x, y: position at t = 0, street frame, metres.
        heading: direction of motion, rad.
        speed: m/s; 0 for a standing object.
    """

    x: float
    y: float
    heading: float
    speed: float = 0.0

    def pose(self, t: ArrayLike) -> Pose2D:
        """Returns x, y (m) and heading (rad) at times t."""
        t = np.asarray(t, dtype=float)
        distance = self.speed * t
        return (
            self.x + distance * np.cos(self.heading),
            self.y + distance * np.sin(self.heading),
            np.full_like(t, self.heading),
        )

    def speed_at(self, t: float) -> float:
        """Returns the speed at time t, m/s."""
        return self.speed


@dataclass(frozen=True)
class ArcMotion:
    """Motion along a circle at constant speed.

    Attributes:
        x, y, heading: pose at t = 0, street frame, metres and rad.
        speed: m/s.
        curvature: inverse of the radius in 1/m, not 0; positive turns left.
    """

    x: float
    y: float
    heading: float
    speed: float
    curvature: float

    def pose(self, t: ArrayLike) -> Pose2D:
        """Returns x, y (m) and heading (rad) at times t."""
        heading = self.heading + self.curvature * self.speed * np.asarray(t, dtype=float)
        return (
            self.x + (np.sin(heading) - np.sin(self.heading)) / self.curvature,
            self.y - (np.cos(heading) - np.cos(self.heading)) / self.curvature,
            heading,
        )

    def speed_at(self, t: float) -> float:
        """Returns the speed at time t, m/s."""
        return self.speed


@dataclass(frozen=True)
class EgoTrajectory:
    """Motion of the ego vehicle: constant acceleration along the road, with sinusoidal deviations
    to the side and small pitch and roll angles.

    Attributes:
        road: centre line.
        speed: derivative of s at t = 0, m/s.
        acceleration: second derivative of s, m/s^2.
        lateral: mean offset to the left of the centre line, metres.
        weave: amplitude of the lateral deviation, metres.
        weave_length: period of the lateral deviation along s, metres.
        weave_phase: phase of the lateral deviation at s = 0, rad.
        tilt: amplitude of the pitch angle, rad; that of the roll angle is 60 % of it.
    """

    road: Road
    speed: float
    acceleration: float
    lateral: float
    weave: float
    weave_length: float
    weave_phase: float
    tilt: float

    def distance(self, t: ArrayLike) -> np.ndarray:
        """Returns s in metres at times t."""
        t = np.asarray(t, dtype=float)
        return self.speed * t + 0.5 * self.acceleration * t * t

    def pose(self, t: ArrayLike) -> Pose2D:
        """Returns x, y (m) and heading (rad) at times t."""
        s = self.distance(t)
        wave_number = 2 * np.pi / self.weave_length
        phase = wave_number * s + self.weave_phase
        lateral = self.lateral + self.weave * np.sin(phase)
        x, y, heading = self.road.pose(s, lateral)
        # Derivative of the lateral offset with respect to the length of the path.
        slope = self.weave * wave_number * np.cos(phase) / (1 - self.road.curvature * lateral)
        return x, y, heading + np.arctan(slope)

    def ego2street(self, t: float) -> np.ndarray:
        """Returns the (4, 4) float64 pose at time t; the ego origin is on the ground."""
        x, y, heading = (float(v) for v in self.pose(t))
        pitch = self.tilt * np.sin(2.1 * t + self.weave_phase)
        roll = 0.6 * self.tilt * np.cos(1.7 * t + self.weave_phase)
        pose = np.eye(4)
        pose[:3, :3] = rotation_z(heading) @ rotation_y(pitch) @ rotation_x(roll)
        pose[:3, 3] = x, y, 0.0
        return pose


def rotation_x(angle: float) -> np.ndarray:
    """Returns the (3, 3) rotation about x by an angle in rad."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rotation_y(angle: float) -> np.ndarray:
    """Returns the (3, 3) rotation about y by an angle in rad; positive angles lower the x axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


# Not fsdbev.structures.rotation_z: it takes and returns tensors, the synthetic world computes with
# float64 arrays.
def rotation_z(angle: float) -> np.ndarray:
    """Returns the (3, 3) rotation about z by an angle in rad, counter-clockwise."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
