"""Annotated objects of a scene, placed so that none overlap at any time of the scene.

Shapes: K times, N reserved footprints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import catalog
from .parts import Parts, ShapeBuilder
from .shapes import SHAPES
from .trajectory import ArcMotion, LaneMotion, LineMotion, Pose2D

Motion = LaneMotion | LineMotion | ArcMotion
#: Height in metres of the bottom of every annotation box above the ground. It exceeds the noise of
#: ground points (``lidar._GROUND_NOISE_LIMIT``), so that no ground point is inside a box.
CLEARANCE = 0.02


@dataclass(frozen=True)
class Actor:
    """An annotated object.

    Attributes:
        class_name: detection class.
        category: nuScenes category.
        size: (length, width, height) of the annotation box, metres.
        motion: position and heading over time, street frame.
        shape: visible boxes in the object frame: x forward, y left, z up, origin at the centre of
            the bottom of the annotation box.
        ridden: whether a two-wheeler has a rider.
        on_road: whether the object is in traffic, as opposed to parked.
    """

    class_name: str
    category: str
    size: tuple[float, float, float]
    motion: Motion
    shape: Parts
    ridden: bool
    on_road: bool

    def attribute(self, t: float) -> str | None:
        """Returns the nuScenes attribute at time t (s), None for classes without attributes."""
        speed = self.motion.speed_at(t)
        return catalog.attribute(self.class_name, speed, ridden=self.ridden, on_road=self.on_road)


class Crowd:
    """Collection of actors that overlap neither each other nor any reserved footprint.

    Args:
        times: (K,) times in seconds from scene start at which overlaps are checked.
        rng: random generator for categories, sizes and colours.
    """

    def __init__(self, times: np.ndarray, rng: np.random.Generator) -> None:
        self.actors: list[Actor] = []
        self.times = times
        self._rng = rng
        self._poses: list[np.ndarray] = []
        self._half_extents: list[tuple[float, float]] = []

    def reserve(self, pose: Pose2D, length: float, width: float) -> None:
        """Keeps a footprint free of actors.

        Args:
            pose: (K,) x, y (m) and heading (rad) at the crowd's times, street frame.
            length, width: extent along and across the heading, metres.
        """
        self._poses.append(np.stack(pose))
        self._half_extents.append((length / 2, width / 2))

    def add(
        self,
        class_name: str,
        motion: Motion,
        *,
        ridden: bool = False,
        on_road: bool = False,
        gap: float = 0.4,
    ) -> bool:
        """Draws an object and adds it unless it would come too close to another footprint.

        Args:
            class_name: detection class.
            motion: position and heading over time, street frame.
            ridden, on_road: as in :class:`Actor`.
            gap: minimum distance to other footprints, metres.

        Returns:
            Whether the object was added.
        """
        moving = motion.speed_at(0.0) > catalog.MOVING_SPEED
        # Drawn before the overlap check, which needs the size: a rejected object consumes random
        # numbers too. Another order of draws would change every generated data set.
        category = catalog.draw_category(class_name, self._rng)
        size = catalog.draw_size(class_name, category, self._rng, ridden=ridden, moving=moving)
        pose = np.stack(motion.pose(self.times))
        if self._overlaps(pose, (size[0] / 2 + gap, size[1] / 2 + gap)):
            return False
        builder = ShapeBuilder(size)
        SHAPES[class_name](
            builder,
            self._rng,
            ridden=ridden,
            moving=moving,
            worker=category.endswith("construction_worker"),
        )
        shape = builder.build(owner=len(self.actors), label=catalog.category_index(category))
        self.actors.append(Actor(class_name, category, size, motion, shape, ridden, on_road))
        self.reserve(tuple(pose), size[0], size[1])
        return True

    def _overlaps(self, pose: np.ndarray, half: tuple[float, float]) -> bool:
        """Checks a (3, K) pose and half extents against all reserved footprints."""
        if not self._poses:
            return False
        others, halves = np.stack(self._poses), np.array(self._half_extents)
        # Circles around the footprints first: few pairs are close enough for the exact test.
        offset = others[:, :2] - pose[:2]
        reach = np.hypot(*half) + np.hypot(halves[:, 0], halves[:, 1])
        near = (np.hypot(offset[:, 0], offset[:, 1]) < reach[:, None]).any(axis=1)
        if not near.any():
            return False
        return bool(_rectangles_touch(pose, half, others[near], halves[near]).any())


def _rectangles_touch(
    pose: np.ndarray, half: tuple[float, float], others: np.ndarray, halves: np.ndarray
) -> np.ndarray:
    """Checks which oriented rectangles overlap, by the separating axis theorem.

    Two convex shapes are disjoint if their projections on the normal of one of their edges are
    (Gottschalk et al., "OBBTree", SIGGRAPH 1996).

    Args:
        pose: (3, K) x, y, heading of one rectangle.
        half: its half length and half width.
        others: (N, 3, K) poses of the other rectangles.
        halves: (N, 2) their half lengths and half widths.

    Returns:
        (N, K) bool.
    """
    offset = others[:, :2] - pose[:2]
    touch = np.ones(offset[:, 0].shape, dtype=bool)
    own = (np.cos(pose[2]), np.sin(pose[2]))
    other = (np.cos(others[:, 2]), np.sin(others[:, 2]))
    for cos, sin in ((own[0], own[1]), (-own[1], own[0]), other, (-other[1], other[0])):
        distance = np.abs(cos * offset[:, 0] + sin * offset[:, 1])
        extent = half[0] * np.abs(cos * own[0] + sin * own[1])
        extent = extent + half[1] * np.abs(sin * own[0] - cos * own[1])
        extent = extent + halves[:, :1] * np.abs(cos * other[0] + sin * other[1])
        extent = extent + halves[:, 1:] * np.abs(sin * other[0] - cos * other[1])
        touch &= distance < extent
    return touch
