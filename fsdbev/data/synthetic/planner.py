"""Placement of objects on a street: random, but stratified over classes and road sections.

Every class appears about equally often in every section of the street. The order of the random
draws defines the generated data sets: another order needs another ``generator.FORMAT``.
"""

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
from .traffic import Traffic
from .trajectory import ArcMotion, EgoTrajectory, LaneMotion, LineMotion

_LARGE = ("car", "truck", "construction_vehicle", "bus", "trailer")
#: Mean lengths in metres, which set the spacing of parked vehicles.
_LARGE_LENGTH = {"car": 4.6, "truck": 7.0, "construction_vehicle": 6.4, "bus": 10.8, "trailer": 10}
#: Fewer two-wheelers than other small objects, because ridden ones are placed separately.
_SMALL = ("barrier", "pedestrian", "traffic_cone") * 3 + ("motorcycle", "bicycle") * 2
#: Minimum distance in metres between a small object and its neighbours.
_SMALL_GAP = 1.2
#: Number of positions drawn before an object is left out.
_ATTEMPTS = 12
#: Longest path in metres of a vehicle that turns at the crossing: a quarter of its circle.
_TURN = 12.0


class _ShuffledBag:
    """Sampler without replacement that reshuffles when empty: equal shares in every section."""

    def __init__(self, items: tuple[str, ...], rng: np.random.Generator) -> None:
        self._items, self._rng, self._remaining = items, rng, []

    def draw(self) -> str:
        """Draws the next item."""
        if not self._remaining:
            self._remaining = [self._items[i] for i in self._rng.permutation(len(self._items))]
        return self._remaining.pop()


class Planner:
    """Places objects section by section; ``side`` is -1 right and 1 left of the road.

    Args:
        crowd: collection of objects, which rejects those that overlap.
        street: street along which the objects are placed.
        span: section of the road with objects, (start, end) in metres along the centre line.
        density: factor on the number of objects.
        traffic: sides and directions of vehicles and riders.
        rng: random generator.
    """

    def __init__(
        self,
        crowd: Crowd,
        street: Street,
        span: tuple[float, float],
        density: float,
        traffic: Traffic,
        rng: np.random.Generator,
    ) -> None:
        self.crowd, self.street, self.span = crowd, street, span
        self.density, self.traffic, self.rng = density, traffic, rng
        self.large, self.small = _ShuffledBag(_LARGE, rng), _ShuffledBag(_SMALL, rng)
        self.drivers = _ShuffledBag(_LARGE, rng)
        self.riders = _ShuffledBag(("motorcycle", "bicycle"), rng)

    def _count(self, mean: float) -> int:
        """Draws an integer whose expectation is ``mean`` times the density."""
        mean = mean * self.density
        return int(mean) + int(self.rng.uniform() < mean - int(mean))

    def _stationary(self, s: float, lateral: float, yaw: float) -> LineMotion:
        """Returns a standing pose at road coordinates, ``yaw`` rad from the road's heading."""
        x, y, heading = (float(v) for v in self.street.road.pose(s, lateral))
        return LineMotion(x, y, heading + yaw)

    def fill(self, ego: EgoTrajectory) -> None:
        """Places objects on the lanes, on the crossing and on both sides of the road."""
        self._fill_ego_lane(ego)
        self._fill_other_lane()
        self._fill_cycle_lanes()
        if self.street.crossing is not None:
            self._fill_crossing()
        for side in (-1.0, 1.0):
            self._fill_side(side)

    def _fill_ego_lane(self, ego: EgoTrajectory) -> None:
        """Places vehicles ahead of and behind the ego vehicle: with nearly its speed, or those of
        a lane against s, which the ego vehicle uses to overtake."""
        rng, road, side = self.rng, self.street.road, self.traffic.ego_side
        reverse = self.traffic.lanes[side] < 0
        for low, high in self._sections_of_ego_lane():
            for _ in range(self._count(0.6)):
                # Vehicles ahead are faster than the ego vehicle and those behind slower, so that
                # no gap closes; none brakes below standstill within the scene.
                drift = float(rng.uniform(0.0, 0.8)) * np.sign(low)
                speed = max(ego.speed + drift, -ego.acceleration * self.crowd.times[-1], 0.0)
                start, lateral = rng.uniform(low, high), side * LANE_CENTER + rng.uniform(-0.2, 0.2)
                motion = LaneMotion(road, start, lateral, speed, ego.acceleration)
                if reverse:
                    motion = LaneMotion(road, start, lateral, -rng.uniform(0.8, 4.0), reverse=True)
                self.crowd.add(self.drivers.draw(), motion, on_road=True)

    def _sections_of_ego_lane(self) -> list[tuple[float, float]]:
        """Returns sections of s relative to the ego vehicle that hold at most one vehicle, in m."""
        sections = [(13.0, 24.0), (-22.0, -13.0)]
        for near in np.arange(36.0, -self.span[0] - 11.0, 22.0).tolist():
            sections += [(near, near + 11.0), (-near - 11.0, -near)]
        return sections

    def _fill_other_lane(self) -> None:
        """Places a column of vehicles beside the ego's lane, which all have the same speed."""
        rng, road, side = self.rng, self.street.road, -self.traffic.ego_side
        direction = self.traffic.lanes[side]
        speed = float(rng.uniform(2.0, 6.5)) if rng.uniform() < 0.85 else 0.0
        # The end of the span where vehicles leave it.
        start = self.span[direction > 0] - direction * rng.uniform(0.0, 10.0)
        # Long enough for vehicles that reach the span only at the end of the scene.
        length = self.span[1] - self.span[0] + speed * self.crowd.times[-1]
        for _ in range(self._count(length / 40.0)):
            lateral = side * LANE_CENTER + rng.uniform(-0.2, 0.2)
            motion = LaneMotion(road, start, lateral, direction * speed, reverse=direction < 0)
            self.crowd.add(self.drivers.draw(), motion, on_road=True)
            start -= direction * rng.uniform(28.0, 44.0)

    def _fill_cycle_lanes(self) -> None:
        """Places ridden two-wheelers."""
        rng, road = self.rng, self.street.road
        for side in (-1.0, 1.0):
            for _ in range(self._count(2.0)):
                start, speed = rng.uniform(*self.span), rng.uniform(1.0, 5.0)
                lateral = side * (CYCLE_CENTER + rng.uniform(-0.4, 0.4))
                direction = self.traffic.cycle_lanes[side]
                motion = LaneMotion(road, start, lateral, direction * speed, reverse=direction < 0)
                self.crowd.add(self.riders.draw(), motion, ridden=True, on_road=True)

    def _fill_crossing(self) -> None:
        """Places waiting and turning vehicles on the side street, and pedestrians that cross it."""
        s = self.street.crossing
        for side in (-1.0, 1.0):
            for _ in range(self._count(1.0)):
                lateral = side * self.rng.uniform(15.0, 21.0)
                yaw = -side * np.pi / 2 + self.rng.normal(0.0, 0.05)
                lane = side
                if self.traffic.any_way:
                    lane, yaw = self._either_sign(side), yaw + self._either_way()
                motion = self._stationary(s - lane * 2.4, lateral, yaw)
                self.crowd.add(self.drivers.draw(), motion, on_road=True)
            for _ in range(self._count(1.0)):
                x, y, heading = self.street.road.pose(
                    s + self.rng.uniform(-4, 4), side * SIDEWALK_CENTER
                )
                heading = heading + (np.pi if self.rng.uniform() < 0.5 else 0.0)
                speed = self.rng.uniform(0.8, 1.6)
                self.crowd.add("pedestrian", LineMotion(float(x), float(y), float(heading), speed))
        if self.traffic.any_way:
            self._fill_turns()

    def _fill_turns(self) -> None:
        """Places vehicles that turn at the crossing, from any direction to either side."""
        rng = self.rng
        for _ in range(self._count(4.0)):
            position = self.street.crossing + rng.uniform(-4.0, 4.0), rng.uniform(-9.0, 9.0)
            pose = self._stationary(*position, rng.uniform(-np.pi, np.pi))
            speed = min(rng.uniform(1.0, 4.0), _TURN / max(self.crowd.times[-1], 1.0))
            curvature = self._either_sign(1.0 / rng.uniform(7.0, 10.0))
            motion = ArcMotion(pose.x, pose.y, pose.heading, speed, curvature)
            self.crowd.add(self.drivers.draw(), motion, on_road=True)

    def _either_sign(self, value: float) -> float:
        """Returns the value or its negative, with equal odds."""
        return value if self.rng.uniform() < 0.5 else -value

    def _either_way(self) -> float:
        """Returns 0 or half a turn, with equal odds, rad."""
        return np.pi * (self.rng.uniform() < 0.5)

    def _fill_side(self, side: float) -> None:
        """Places parked vehicles at the kerb or in the yards, with small objects around them."""
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
        """Parks a vehicle at the kerb or in a yard, unless no free position is found."""
        rng, along = self.rng, np.pi if side > 0 else 0.0
        against = 0.5 if self.traffic.any_way else 0.15
        for _ in range(_ATTEMPTS):
            if at_kerb:
                yaw = along + rng.normal(0.0, 0.03) + np.pi * (rng.uniform() < against)
                lateral = side * (PARKING_CENTER + rng.uniform(-0.1, 0.2))
                motion = self._stationary(s, lateral, yaw)
            else:
                lateral = side * (YARD_CENTER + rng.uniform(-2.0, 3.0))
                yaw = along + rng.normal(0.0, 0.1)
                if self.traffic.any_way:
                    yaw += self._either_way()
                motion = self._stationary(s + rng.uniform(-1.5, 1.5), lateral, yaw)
            if self.crowd.add(name, motion):
                return

    def _place_small(self, name: str, side: float, start: float, stop: float) -> None:
        """Places a small object in [start, stop) along s, unless no free position is found."""
        for _ in range(_ATTEMPTS):
            if self.crowd.add(name, self._draw_small(name, side, start, stop), gap=_SMALL_GAP):
                return

    def _draw_small(self, name: str, side: float, start: float, stop: float) -> LineMotion:
        """Draws the motion of a small object in the zone where its class is found."""
        rng = self.rng
        s = rng.uniform(start, stop)
        if name == "pedestrian":
            lateral = side * rng.uniform(KERB + 0.3, SIDEWALK_EDGE - 0.3)
            walks = rng.uniform() < 0.6
            yaw = rng.choice((0.0, np.pi)) + rng.normal(0.0, 0.1) if walks else rng.uniform(-3, 3)
            pose = self._stationary(s, lateral, yaw)
            return LineMotion(pose.x, pose.y, pose.heading, rng.uniform(0.7, 1.7) * walks)
        if name == "traffic_cone":
            return self._stationary(s, side * rng.uniform(CYCLE_EDGE, KERB), rng.uniform(-3.1, 3.1))
        if name == "barrier":
            lateral = side * rng.uniform(CYCLE_EDGE + 0.3, KERB + 1.2)
            yaw = np.pi / 2 * rng.integers(4) if rng.uniform() < 0.5 else np.pi / 2
            return self._stationary(s, lateral, yaw + rng.normal(0.0, 0.2))
        lateral = side * rng.uniform(KERB - 1.5, SIDEWALK_EDGE)
        return self._stationary(s, lateral, rng.uniform(-np.pi, np.pi))
