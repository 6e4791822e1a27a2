"""Who stands and moves where: random but stratified, so that every class appears everywhere about
equally."""

from __future__ import annotations

import numpy as np

from .crowd import Crowd
from .street import (
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
from .trajectory import EgoTrajectory, LaneMotion, LineMotion

_LARGE = ("car", "truck", "construction_vehicle", "bus", "trailer")
_LARGE_LENGTH = {"car": 4.6, "truck": 7.0, "construction_vehicle": 6.4, "bus": 10.8, "trailer": 10}
#: Riders add to the two-wheelers, so that fewer of those stand around.
_SMALL = ("barrier", "pedestrian", "traffic_cone") * 3 + ("motorcycle", "bicycle") * 2
#: Metres between a small object and its neighbours.
_SPACE = 1.2
#: How often a place is looked for before an object is left out.
_TRIES = 12


class _Bag:
    """Draws from a shuffled bag that is refilled when empty: even shares in every stretch."""

    def __init__(self, items: tuple[str, ...], rng: np.random.Generator) -> None:
        self._items, self._rng, self._left = items, rng, []

    def draw(self) -> str:
        if not self._left:
            self._left = [self._items[i] for i in self._rng.permutation(len(self._items))]
        return self._left.pop()


class Planner:
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

    def fill(self, ego: EgoTrajectory) -> None:
        """Fills lanes, crossing and both sides."""
        self._fill_lane_of(ego)
        self._fill_oncoming_lane()
        self._fill_cycle_lanes()
        if self.street.crossing is not None:
            self._fill_crossing()
        for side in (-1.0, 1.0):
            self._fill_side(side)

    def _fill_lane_of(self, ego: EgoTrajectory) -> None:
        """Vehicles ahead of and behind the ego vehicle that drive like it."""
        rng, road = self.rng, self.street.road
        for low, high in ((13.0, 24.0), (-22.0, -13.0)):
            for _ in range(self._count(0.6)):
                drift = float(rng.uniform(0.0, 0.8)) * np.sign(low)
                speed = max(ego.speed + drift, -ego.acceleration * self.crowd.times[-1], 0.0)
                start, lateral = rng.uniform(low, high), -LANE_CENTER + rng.uniform(-0.2, 0.2)
                motion = LaneMotion(road, start, lateral, speed, ego.acceleration)
                self.crowd.add(self.drivers.draw(), motion, on_road=True)

    def _fill_oncoming_lane(self) -> None:
        """A column of oncoming vehicles, all equally fast."""
        rng, road = self.rng, self.street.road
        speed = float(rng.uniform(2.0, 6.5)) if rng.uniform() < 0.85 else 0.0
        start = self.span[0] + rng.uniform(0.0, 10.0)
        way = self.span[1] - self.span[0] + speed * self.crowd.times[-1]
        for _ in range(self._count(way / 40.0)):
            lateral = LANE_CENTER + rng.uniform(-0.2, 0.2)
            self.crowd.add(
                self.drivers.draw(),
                LaneMotion(road, start, lateral, -speed, reverse=True),
                on_road=True,
            )
            start += rng.uniform(28.0, 44.0)

    def _fill_cycle_lanes(self) -> None:
        """Ridden two-wheelers."""
        rng, road = self.rng, self.street.road
        for side in (-1.0, 1.0):
            for _ in range(self._count(2.0)):
                start, pace = rng.uniform(*self.span), rng.uniform(1.0, 5.0)
                lateral = side * (CYCLE_CENTER + rng.uniform(-0.4, 0.4))
                motion = LaneMotion(road, start, lateral, -side * pace, reverse=side > 0)
                self.crowd.add(self.riders.draw(), motion, ridden=True, on_road=True)

    def _fill_crossing(self) -> None:
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

    def _fill_side(self, side: float) -> None:
        """Parked vehicles at the kerb or in the yard behind it, small objects around them."""
        s = self.span[0] + self.rng.uniform(0.0, 6.0)
        while s < self.span[1]:
            name = self.large.draw()
            at_kerb = self.rng.uniform() < 0.25
            length = _LARGE_LENGTH[name] + self.rng.uniform(5.0, 9.0)
            if not self.street.is_crossed(s, s + length, margin=3.0):
                if self.rng.uniform() < 0.9 * self.density:
                    self._park(name, side, s + length / 2, at_kerb)
                for _ in range(self._count(length / 5.5)):
                    self._place_small(self.small.draw(), side, s, s + length)
            s += length

    def _park(self, name: str, side: float, s: float, at_kerb: bool) -> None:
        """Parks a vehicle along the kerb, or along it in the yard; gives up where all is taken."""
        rng, along = self.rng, np.pi if side > 0 else 0.0
        for _ in range(_TRIES):
            if at_kerb:
                turn = along + rng.normal(0.0, 0.03) + np.pi * (rng.uniform() < 0.15)
                motion = self._still(s, side * (PARKING_CENTER + rng.uniform(-0.1, 0.2)), turn)
            else:
                lateral = side * (YARD_CENTER + rng.uniform(-2.0, 3.0))
                turn = along + rng.normal(0.0, 0.1)
                motion = self._still(s + rng.uniform(-1.5, 1.5), lateral, turn)
            if self.crowd.add(name, motion):
                return

    def _place_small(self, name: str, side: float, start: float, stop: float) -> None:
        """Puts a small object between start and stop; gives up where all is taken."""
        for _ in range(_TRIES):
            if self.crowd.add(name, self._draw_small(name, side, start, stop), gap=_SPACE):
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
            turn = np.pi / 2 * rng.integers(4) if rng.uniform() < 0.5 else np.pi / 2
            return self._still(s, lateral, turn + rng.normal(0.0, 0.2))
        lateral = side * rng.uniform(KERB - 1.5, SIDEWALK_EDGE)
        return self._still(s, lateral, rng.uniform(-np.pi, np.pi))
