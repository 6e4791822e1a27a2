"""A scene's world: the street, who moves on it, and what stands beside it without annotation.

All placement is random but stratified, so that every class appears everywhere about equally.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .catalog import category_index
from .crowd import CLEARANCE, Actor, Crowd
from .options import SyntheticOptions
from .parts import SHADOW, WINDOWS, Parts, ShapeBuilder
from .street import (
    BUILDING_LINE,
    CROSSING_HALF_WIDTH,
    CYCLE_CENTER,
    CYCLE_EDGE,
    KERB,
    LANE_CENTER,
    PARKING_CENTER,
    SIDEWALK_CENTER,
    SIDEWALK_EDGE,
    YARD_CENTER,
    Street,
)
from .trajectory import EgoTrajectory, LaneMotion, LineMotion, Road, rotation_z

#: Seconds between key frames.
FRAME_PERIOD = 0.5
#: Objects stand from this far behind the start to this far beyond the end of the ego's way, m.
BEHIND, AHEAD = 30.0, 34.0
#: How far a shadow's middle lies from its object, as a share of the full length of the shadow.
_SHADOW_LEAN = 0.25
_EGO_SIZE = (4.7, 2.0)
_LARGE = ("car", "truck", "construction_vehicle", "bus", "trailer")
_SMALL = ("barrier", "motorcycle", "bicycle", "pedestrian", "traffic_cone")
_LARGE_LENGTH = {"car": 4.6, "truck": 7.0, "construction_vehicle": 6.4, "bus": 10.8, "trailer": 10}


@dataclass(frozen=True)
class Light:
    """Unit vector to the sun, ambient share of the light, exposure, RGB of zenith and horizon."""

    sun: np.ndarray
    ambient: float
    exposure: float
    zenith: np.ndarray
    horizon: np.ndarray


@dataclass(frozen=True)
class World:
    """Everything a sensor can see, in the street frame."""

    street: Street
    ego: EgoTrajectory
    actors: list[Actor]
    scenery: Parts
    light: Light
    span: tuple[float, float]

    def poses_at(self, t: float) -> np.ndarray:
        """(A, 3) x, y, heading of the actors at time t."""
        poses = [[float(v) for v in actor.motion.pose(t)] for actor in self.actors]
        return np.array(poses).reshape(-1, 3)

    def parts_at(self, t: float) -> Parts:
        """All boxes at time t: the actors' (``owner`` is their index) and the scenery."""
        if not self.actors:
            return self.scenery
        poses = self.poses_at(t)
        rotations = np.stack([rotation_z(heading) for heading in poses[:, 2]])
        feet = np.column_stack([poses[:, :2], np.full(len(poses), CLEARANCE)])
        shapes = Parts.cat([actor.shape for actor in self.actors])
        moved = shapes.moved(rotations[shapes.owner], feet[shapes.owner])
        return Parts.cat([moved, self.scenery])

    def shadows_at(self, t: float) -> Parts:
        """Flat boxes on the ground that darken it under the actors."""
        poses = self.poses_at(t)
        sizes = np.array([actor.size for actor in self.actors])
        count = len(poses)
        lean = -_SHADOW_LEAN * self.light.sun[:2] / self.light.sun[2]
        center = np.column_stack([poses[:, :2] + lean * sizes[:, 2:], np.zeros(count)])
        half = np.column_stack([sizes[:, :2] / 2 + 0.05, np.full(count, 0.004)])
        black = np.zeros((count, 3), dtype=np.float32)
        return Parts(
            center,
            half,
            np.stack([rotation_z(heading) for heading in poses[:, 2]]),
            black,
            black,
            np.full(count, SHADOW, dtype=np.int8),
            np.ones(count, dtype=np.float32),
            np.full(count, -1, dtype=np.int32),
            np.zeros(count, dtype=np.uint8),
        )


class _Bag:
    """Draws from a shuffled bag that is refilled when empty: even shares in every stretch."""

    def __init__(self, items: tuple[str, ...], rng: np.random.Generator) -> None:
        self._items, self._rng, self._left = items, rng, []

    def draw(self) -> str:
        if not self._left:
            self._left = [self._items[i] for i in self._rng.permutation(len(self._items))]
        return self._left.pop()


def build_world(options: SyntheticOptions, rng: np.random.Generator) -> World:
    """A new world for one scene."""
    duration = (options.frames - 1) * FRAME_PERIOD
    curvature = float(rng.choice((-1.0, 0.0, 1.0))) / rng.uniform(85.0, 160.0)
    road = Road(curvature)
    ego = _draw_ego(road, duration, rng)
    way = float(ego.distance(duration))
    span = (-BEHIND, way + AHEAD)
    crossing = float(rng.uniform(10.0, way + 26.0)) if rng.uniform() < 0.45 else None
    grain = rng.uniform(-1.0, 1.0, size=(256, 256)).astype(np.float32)
    street = Street(road, crossing, grain)
    times = np.arange(-0.06, duration + 0.06, 0.25)
    crowd = Crowd(times, rng)
    crowd.reserve(ego.pose(times), _EGO_SIZE[0] + 6.0, _EGO_SIZE[1] + 0.4)
    planner = _Planner(crowd, street, span, options.density, rng)
    planner.fill_lanes(ego)
    if crossing is not None:
        planner.fill_crossing()
    for side in (-1.0, 1.0):
        planner.fill_side(side)
    return World(street, ego, crowd.actors, _draw_scenery(street, span, rng), _draw_light(rng), span)


def _draw_ego(road: Road, duration: float, rng: np.random.Generator) -> EgoTrajectory:
    first, last = rng.uniform(1.0, 6.5, size=2)
    if rng.uniform() < 0.25:
        first, last = (0.0, last) if rng.uniform() < 0.5 else (first, 0.0)
    return EgoTrajectory(
        road,
        speed=float(first),
        acceleration=float((last - first) / max(duration, FRAME_PERIOD)),
        lateral=-LANE_CENTER + float(rng.uniform(-0.2, 0.2)),
        weave=float(rng.uniform(0.0, 0.35)),
        weave_length=float(rng.uniform(28.0, 50.0)),
        weave_phase=float(rng.uniform(0.0, 2 * np.pi)),
        tilt=float(np.radians(rng.uniform(0.0, 0.2))),
    )


class _Planner:
    """Places objects row by row; ``side`` is -1 for the right and 1 for the left of the road."""

    def __init__(
        self,
        crowd: Crowd,
        street: Street,
        span: tuple[float, float],
        density: float,
        rng: np.random.Generator,
    ) -> None:
        self.crowd, self.street, self.span = crowd, street, span
        self.density, self.rng = density, rng
        self.large, self.small = _Bag(_LARGE, rng), _Bag(_SMALL, rng)
        self.drivers, self.riders = _Bag(_LARGE, rng), _Bag(("motorcycle", "bicycle"), rng)

    def _count(self, mean: float) -> int:
        """A whole number with this mean times the density."""
        mean = mean * self.density
        return int(mean) + int(self.rng.uniform() < mean - int(mean))

    def _still(self, s: float, lateral: float, turn: float) -> LineMotion:
        """Stands at road coordinates, turned from the road's direction."""
        x, y, heading = (float(v) for v in self.street.road.pose(s, lateral))
        return LineMotion(x, y, heading + turn)

    def fill_lanes(self, ego: EgoTrajectory) -> None:
        """Moving vehicles: ahead of and behind the ego vehicle, oncoming, and two-wheelers."""
        rng, road = self.rng, self.street.road
        for low, high in ((13.0, 24.0), (-22.0, -13.0)):
            for _ in range(self._count(0.8)):
                drift = float(rng.uniform(0.0, 0.8)) * np.sign(low)
                speed = max(ego.speed + drift, -ego.acceleration * self.crowd._times[-1], 0.0)
                start, lateral = rng.uniform(low, high), -LANE_CENTER + rng.uniform(-0.2, 0.2)
                motion = LaneMotion(road, start, lateral, speed, ego.acceleration)
                self.crowd.add(self.drivers.draw(), motion, on_road=True)
        speed = float(rng.uniform(2.0, 6.5)) if rng.uniform() < 0.85 else 0.0
        start = self.span[0] + rng.uniform(0.0, 10.0)
        for _ in range(self._count((self.span[1] - self.span[0] + 4.0 * speed) / 24.0)):
            lateral = LANE_CENTER + rng.uniform(-0.2, 0.2)
            self.crowd.add(
                self.drivers.draw(),
                LaneMotion(road, start, lateral, -speed, reverse=True),
                on_road=True,
            )
            start += rng.uniform(17.0, 27.0)
        for side in (-1.0, 1.0):
            for _ in range(self._count(2.5)):
                start, pace = rng.uniform(*self.span), rng.uniform(1.0, 5.0)
                lateral = side * (CYCLE_CENTER + rng.uniform(-0.4, 0.4))
                motion = LaneMotion(road, start, lateral, -side * pace, reverse=side > 0)
                self.crowd.add(self.riders.draw(), motion, ridden=True, on_road=True)

    def fill_crossing(self) -> None:
        """Vehicles that wait on the side street, and people who cross it."""
        s = self.street.crossing
        for side in (-1.0, 1.0):
            for _ in range(self._count(1.0)):
                lateral = side * self.rng.uniform(15.0, 21.0)
                turn = -side * np.pi / 2 + self.rng.normal(0.0, 0.05)
                motion = self._still(s - side * 2.4, lateral, turn)
                self.crowd.add(self.drivers.draw(), motion, on_road=True)
            for _ in range(self._count(1.0)):
                x, y, heading = self.street.road.pose(
                    s + self.rng.uniform(-4, 4), side * SIDEWALK_CENTER
                )
                heading = heading + (np.pi if self.rng.uniform() < 0.5 else 0.0)
                pace = self.rng.uniform(0.8, 1.6)
                self.crowd.add("pedestrian", LineMotion(float(x), float(y), float(heading), pace))

    def fill_side(self, side: float) -> None:
        """Parked vehicles at the kerb or in the yard behind it, small objects around them."""
        s = self.span[0] + self.rng.uniform(0.0, 6.0)
        while s < self.span[1]:
            name = self.large.draw()
            at_kerb = self.rng.uniform() < 0.55
            length = _LARGE_LENGTH[name] + self.rng.uniform(4.5, 7.5)
            if not self._crossed(s, s + length):
                if self.rng.uniform() < 0.9 * self.density:
                    self._park(name, side, s + length / 2, at_kerb)
                for _ in range(self._count(length / 5.2)):
                    self._place_small(self.small.draw(), side, s, s + length)
            s += length

    def _crossed(self, start: float, stop: float) -> bool:
        crossing = self.street.crossing
        if crossing is None:
            return False
        reach = CROSSING_HALF_WIDTH + 3.0
        return start < crossing + reach and stop > crossing - reach

    def _park(self, name: str, side: float, s: float, at_kerb: bool) -> None:
        along = np.pi if side > 0 else 0.0
        if at_kerb:
            turn = along + self.rng.normal(0.0, 0.03) + np.pi * (self.rng.uniform() < 0.15)
            motion = self._still(s, side * (PARKING_CENTER + self.rng.uniform(-0.1, 0.2)), turn)
        else:
            turn = self.rng.uniform(-np.pi, np.pi)
            motion = self._still(s, side * (YARD_CENTER + self.rng.uniform(-2.0, 3.0)), turn)
        self.crowd.add(name, motion)

    def _place_small(self, name: str, side: float, start: float, stop: float) -> None:
        """Tries a few places inside [start, stop]; gives up where all is taken."""
        for _ in range(12):
            if self.crowd.add(name, self._draw_small(name, side, start, stop)):
                return

    def _draw_small(self, name: str, side: float, start: float, stop: float) -> LineMotion:
        rng = self.rng
        s = rng.uniform(start, stop)
        if name == "pedestrian":
            lateral = side * rng.uniform(KERB + 0.3, SIDEWALK_EDGE - 0.3)
            walks = rng.uniform() < 0.6
            turn = rng.choice((0.0, np.pi)) + rng.normal(0.0, 0.1) if walks else rng.uniform(-3, 3)
            still = self._still(s, lateral, turn)
            return LineMotion(still.x, still.y, still.heading, rng.uniform(0.7, 1.7) * walks)
        if name == "traffic_cone":
            return self._still(s, side * rng.uniform(CYCLE_EDGE, KERB), rng.uniform(-3.1, 3.1))
        if name == "barrier":
            lateral = side * rng.uniform(CYCLE_EDGE + 0.3, KERB + 1.2)
            turn = np.pi / 2 if rng.uniform() < 0.6 else 0.0
            return self._still(s, lateral, turn + np.pi * (rng.uniform() < 0.5) + rng.normal(0, 0.2))
        lateral = side * rng.uniform(KERB - 1.5, SIDEWALK_EDGE)
        return self._still(s, lateral, rng.uniform(-np.pi, np.pi))


def _draw_light(rng: np.random.Generator) -> Light:
    azimuth, elevation = rng.uniform(0.0, 2 * np.pi), np.radians(rng.uniform(28.0, 65.0))
    level = np.cos(elevation)
    sun = np.array((level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)))
    blue = rng.uniform(0.0, 1.0)
    zenith = np.array((0.32, 0.52, 0.85)) * blue + np.array((0.66, 0.70, 0.76)) * (1 - blue)
    horizon = np.array((0.80, 0.86, 0.93)) * blue + np.array((0.82, 0.83, 0.85)) * (1 - blue)
    return Light(sun, float(rng.uniform(0.5, 0.7)), float(rng.uniform(0.85, 1.12)), zenith, horizon)


def _draw_scenery(street: Street, span: tuple[float, float], rng: np.random.Generator) -> Parts:
    """Buildings behind the yards, trees and lamp posts on the sidewalks; not annotated."""
    start, stop = span[0] - 35.0, span[1] + 35.0
    parts: list[Parts] = []
    for side in (-1.0, 1.0):
        s = start
        while s < stop:
            length = rng.uniform(12.0, 24.0)
            size = (length * 0.94, rng.uniform(8.0, 14.0), rng.uniform(5.0, 18.0))
            place = (s + length / 2, side * (BUILDING_LINE + size[1] / 2 + rng.uniform(0.0, 4.0)))
            if not _blocks_crossing(street, s, s + length):
                parts.append(_stand(_building(size, rng), street, *place, 0.0))
            s += length
        for s in np.arange(start, stop, 13.0) + rng.uniform(0.0, 13.0):
            lateral = side * (SIDEWALK_EDGE + 0.8 + rng.uniform(0.0, 1.0))
            if _blocks_crossing(street, s - 2.0, s + 2.0):
                continue
            if rng.uniform() < 0.6:
                parts.append(_stand(_tree(rng), street, s, lateral, rng.uniform(0.0, 1.5)))
            else:
                parts.append(_stand(_lamp_post(), street, s, side * (KERB + 0.5), -side * np.pi / 2))
    return Parts.cat(parts)


def _blocks_crossing(street: Street, start: float, stop: float) -> bool:
    reach = CROSSING_HALF_WIDTH + 1.0
    crossing = street.crossing
    return crossing is not None and start < crossing + reach and stop > crossing - reach


def _stand(shape: Parts, street: Street, s: float, lateral: float, turn: float) -> Parts:
    x, y, heading = (float(v) for v in street.road.pose(s, lateral))
    return shape.moved(rotation_z(heading + turn), np.array((x, y, 0.0)))


def _building(size: tuple[float, float, float], rng: np.random.Generator) -> Parts:
    walls = ((0.62, 0.50, 0.42), (0.72, 0.68, 0.60), (0.55, 0.56, 0.58), (0.66, 0.42, 0.34))
    wall = tuple(np.array(walls[int(rng.integers(len(walls)))]) * rng.uniform(0.85, 1.15))
    glass, scale = (0.28, 0.33, 0.40), float(rng.uniform(2.4, 3.4))
    builder = ShapeBuilder(size, margin=0.0)
    builder.box((-1, 1), (-1, 1), (0, 1), wall, pattern=WINDOWS, color2=glass, scale=scale)
    return builder.build(owner=-1, label=category_index("static.manmade"))


def _tree(rng: np.random.Generator) -> Parts:
    height = rng.uniform(4.5, 7.0)
    green = np.array((0.16, 0.36, 0.12)) * rng.uniform(0.8, 1.3)
    builder = ShapeBuilder((2.8, 2.8, height), margin=0.0)
    builder.box((-0.08, 0.08), (-0.08, 0.08), (0.0, 0.5), (0.30, 0.22, 0.15))
    builder.box((-0.7, 0.7), (-1.0, 1.0), (0.45, 0.85), tuple(green))
    builder.box((-1.0, 1.0), (-0.7, 0.7), (0.50, 0.80), tuple(0.9 * green))
    builder.box((-0.6, 0.6), (-0.6, 0.6), (0.80, 1.0), tuple(1.1 * green))
    return builder.build(owner=-1, label=category_index("static.vegetation"))


def _lamp_post() -> Parts:
    gray = (0.35, 0.36, 0.38)
    builder = ShapeBuilder((2.4, 0.4, 6.5), margin=0.0)
    builder.box((-0.06, 0.06), (-0.35, 0.35), (0.0, 1.0), gray)
    builder.box((0.0, 1.0), (-0.3, 0.3), (0.975, 1.0), gray)
    return builder.build(owner=-1, label=category_index("static.manmade"))
