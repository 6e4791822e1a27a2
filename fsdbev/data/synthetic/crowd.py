"""Objects and the place they take: nothing may overlap at any time of the scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import catalog
from .parts import Parts, ShapeBuilder
from .shapes import SHAPES
from .trajectory import LaneMotion, LineMotion, Pose2D

Motion = LaneMotion | LineMotion
#: Height of every annotation box's bottom above the ground in metres: more than the lidar's
#: noise on the ground, so that no ground point lies inside a box.
CLEARANCE = 0.02


@dataclass(frozen=True)
class Actor:
    """An annotated object: detection class, nuScenes category, (l, w, h) in metres, motion, and
    its boxes in its own frame (origin below the box centre, on the box's bottom)."""

    class_name: str
    category: str
    size: tuple[float, float, float]
    motion: Motion
    shape: Parts
    ridden: bool
    on_road: bool

    def attribute(self, t: float) -> str | None:
        """nuScenes attribute name at time t, None for classes without attributes."""
        speed = self.motion.speed_at(t)
        return catalog.attribute(self.class_name, speed, ridden=self.ridden, on_road=self.on_road)


class Crowd:
    """Collects actors that do not overlap each other, the ego vehicle, or what is reserved.

    ``times`` are the moments, in seconds, at which overlaps are looked for.
    """

    def __init__(self, times: np.ndarray, rng: np.random.Generator) -> None:
        self.actors: list[Actor] = []
        self.times = times
        self._rng = rng
        self._poses: list[np.ndarray] = []
        self._halves: list[tuple[float, float]] = []

    def reserve(self, pose: Pose2D, length: float, width: float) -> None:
        """Keeps a moving footprint free: pose at the crowd's times, size in metres."""
        self._poses.append(np.stack(pose))
        self._halves.append((length / 2, width / 2))

    def add(
        self,
        class_name: str,
        motion: Motion,
        *,
        ridden: bool = False,
        on_road: bool = False,
        gap: float = 0.4,
    ) -> bool:
        """Adds an object with this motion unless it would come closer than ``gap`` metres to
        another one; says whether it did."""
        size, category = self._draw(class_name, motion, ridden)
        pose = np.stack(motion.pose(self.times))
        half = (size[0] / 2 + gap, size[1] / 2 + gap)
        if self._overlaps(pose, half):
            return False
        builder = ShapeBuilder(size)
        SHAPES[class_name](
            builder,
            self._rng,
            ridden=ridden,
            moving=motion.speed_at(0.0) > catalog.MOVING_SPEED,
            worker=category.endswith("construction_worker"),
        )
        shape = builder.build(owner=len(self.actors), label=catalog.category_index(category))
        self.actors.append(Actor(class_name, category, size, motion, shape, ridden, on_road))
        self.reserve(tuple(pose), size[0], size[1])
        return True

    def _draw(
        self, class_name: str, motion: Motion, ridden: bool
    ) -> tuple[tuple[float, float, float], str]:
        category = catalog.draw_category(class_name, self._rng)
        moving = motion.speed_at(0.0) > catalog.MOVING_SPEED
        size = catalog.draw_size(class_name, category, self._rng, ridden=ridden, moving=moving)
        return size, category

    def _overlaps(self, pose: np.ndarray, half: tuple[float, float]) -> bool:
        if not self._poses:
            return False
        others, halves = np.stack(self._poses), np.array(self._halves)
        offset = others[:, :2] - pose[:2]
        reach = np.hypot(*half) + np.hypot(halves[:, 0], halves[:, 1])
        near = (np.hypot(offset[:, 0], offset[:, 1]) < reach[:, None]).any(axis=1)
        if not near.any():
            return False
        return bool(_rectangles_touch(pose, half, others[near], halves[near]).any())


def _rectangles_touch(
    pose: np.ndarray, half: tuple[float, float], others: np.ndarray, halves: np.ndarray
) -> np.ndarray:
    """Separating axes of oriented rectangles: (3, K) against (N, 3, K) -> (N, K) bool."""
    offset = others[:, :2] - pose[:2]
    touch = np.ones(offset[:, 0].shape, dtype=bool)
    own = (np.cos(pose[2]), np.sin(pose[2]))
    theirs = (np.cos(others[:, 2]), np.sin(others[:, 2]))
    for cos, sin in ((own[0], own[1]), (-own[1], own[0]), theirs, (-theirs[1], theirs[0])):
        reach = np.abs(cos * offset[:, 0] + sin * offset[:, 1])
        extent = half[0] * np.abs(cos * own[0] + sin * own[1])
        extent = extent + half[1] * np.abs(sin * own[0] - cos * own[1])
        extent = extent + halves[:, :1] * np.abs(cos * theirs[0] + sin * theirs[1])
        extent = extent + halves[:, 1:] * np.abs(sin * theirs[0] - cos * theirs[1])
        touch &= reach < extent
    return touch
