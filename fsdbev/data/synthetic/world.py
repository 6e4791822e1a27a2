"""World of a scene: street, ego vehicle, annotated objects, scenery and light.

Shapes: A actors, P parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .crowd import CLEARANCE, Actor, Crowd
from .options import SyntheticOptions
from .parts import SHADOW, Parts
from .planner import Planner
from .scenery import draw_scenery
from .street import LANE_CENTER, Street
from .traffic import Traffic
from .trajectory import EgoTrajectory, Road, rotation_z

#: Shortest time in seconds in which the ego vehicle changes its speed from the first to the last.
_MIN_RAMP = 0.5
#: Range of the share of LiDAR rays that an object reflects, in worlds with weak returns.
_REFLECTANCE = (0.3, 1.0)
#: Distance of a shadow's centre from its object, as a fraction of the length of the shadow.
_SHADOW_OFFSET = 0.25
#: (length, width) of the ego vehicle, metres.
_EGO_SIZE = (4.7, 2.0)


@dataclass(frozen=True)
class Light:
    """Light of a scene.

    Attributes:
        sun: (3,) unit vector to the sun, street frame.
        ambient: brightness of surfaces without sunlight, before exposure.
        exposure: factor on the brightness of surfaces.
        zenith, horizon: (3,) RGB of the sky in 0..1.
    """

    sun: np.ndarray
    ambient: float
    exposure: float
    zenith: np.ndarray
    horizon: np.ndarray


@dataclass(frozen=True)
class World:
    """Everything that sensors measure, in the street frame.

    Attributes:
        street: ground surface.
        ego: motion of the ego vehicle.
        actors: annotated objects.
        scenery: boxes that are not annotated.
        light: light of the scene.
        span: section of the road with objects, (start, end) of s in metres.
        reflectance: (A,) share of the LiDAR rays that an actor reflects; None if all return.
    """

    street: Street
    ego: EgoTrajectory
    actors: list[Actor]
    scenery: Parts
    light: Light
    span: tuple[float, float]
    reflectance: np.ndarray | None = None

    def poses_at(self, t: float) -> np.ndarray:
        """Returns (A, 3) x, y (m) and heading (rad) of the actors at time t (s)."""
        poses = [[float(v) for v in actor.motion.pose(t)] for actor in self.actors]
        # reshape: (0, 3) for a world without actors.
        return np.array(poses).reshape(-1, 3)

    def parts_at(self, t: float) -> Parts:
        """Returns the P boxes of actors and scenery at time t (s)."""
        if not self.actors:
            return self.scenery
        poses = self.poses_at(t)
        rotations = _rotations(poses)
        feet = np.column_stack([poses[:, :2], np.full(len(poses), CLEARANCE)])
        shapes = Parts.concatenate([actor.shape for actor in self.actors])
        moved = shapes.moved(rotations[shapes.owner], feet[shapes.owner])
        return Parts.concatenate([moved, self.scenery])

    def shadows_at(self, t: float) -> Parts:
        """Returns one flat box per actor that marks the shadow on the ground at time t (s)."""
        poses = self.poses_at(t)
        sizes = np.array([actor.size for actor in self.actors]).reshape(-1, 3)
        count = len(poses)
        # An object of height h has a shadow of length h / tan(elevation of the sun).
        offset = -_SHADOW_OFFSET * self.light.sun[:2] / self.light.sun[2]
        center = np.column_stack([poses[:, :2] + offset * sizes[:, 2:], np.zeros(count)])
        half = np.column_stack([sizes[:, :2] / 2 + 0.05, np.full(count, 0.004)])
        black = np.zeros((count, 3), dtype=np.float32)
        return Parts(
            center,
            half,
            _rotations(poses),
            black,
            black,
            np.full(count, SHADOW, dtype=np.int8),
            np.ones(count, dtype=np.float32),
            np.full(count, -1, dtype=np.int32),
            np.zeros(count, dtype=np.uint8),
        )


def _rotations(poses: np.ndarray) -> np.ndarray:
    """Converts (A, 3) x, y, heading to (A, 3, 3) rotations."""
    return np.array([rotation_z(heading) for heading in poses[:, 2]]).reshape(-1, 3, 3)


def build_world(options: SyntheticOptions, rng: np.random.Generator) -> World:
    """Draws the world of one scene.

    The order of the draws defines the generated data sets: another order needs another
    ``generator.FORMAT``.

    Args:
        options: number and rate of key frames, kind of world, density of objects and traffic.
        rng: random generator of the scene's stream "world".
    """
    duration = (options.frames - 1) / options.rate
    curvature = float(rng.choice((-1.0, 0.0, 1.0))) / rng.uniform(150.0, 300.0)
    road = Road(curvature)
    traffic = Traffic.draw(options.traffic, rng)
    ego = _draw_ego(road, traffic.ego_side, duration, rng)
    distance = float(ego.distance(duration))
    kind = options.world_kind
    span = (-kind.behind, distance + kind.ahead)
    crossing = float(rng.uniform(10.0, distance + 26.0)) if rng.uniform() < 0.45 else None
    grain = rng.uniform(-1.0, 1.0, size=(256, 256)).astype(np.float32)
    street = Street(road, crossing, grain)
    # From 0.06 s before the first key frame, because cameras trigger up to 48 ms before it.
    times = np.arange(-0.06, duration + 0.06, 0.25)
    crowd = Crowd(times, rng)
    # Longer than the ego vehicle: no object is closer than 3 m ahead of it or behind it.
    crowd.reserve(ego.pose(times), _EGO_SIZE[0] + 6.0, _EGO_SIZE[1] + 0.4)
    scenery = draw_scenery(street, span, rng)
    for place in scenery.places:
        crowd.reserve(place.stand.pose(times), place.extent, place.extent)
    planner = Planner(crowd, street, span, options.density * kind.density, traffic, rng)
    planner.fill(ego)
    light, reflectance = _draw_light(rng), None
    if kind.weak_returns:
        reflectance = rng.uniform(*_REFLECTANCE, size=len(crowd.actors))
    return World(street, ego, crowd.actors, scenery.parts, light, span, reflectance)


def _draw_ego(road: Road, side: float, duration: float, rng: np.random.Generator) -> EgoTrajectory:
    """Draws the motion of the ego vehicle on one side of the road (1: left) in ``duration`` s."""
    first, last = rng.uniform(0.8, 4.0, size=2)
    # A quarter of the vehicles starts from or brakes to a standstill.
    if rng.uniform() < 0.25:
        first, last = (0.0, last) if rng.uniform() < 0.5 else (first, 0.0)
    return EgoTrajectory(
        road,
        speed=float(first),
        # A scene of one key frame has duration 0.
        acceleration=float((last - first) / max(duration, _MIN_RAMP)),
        lateral=side * LANE_CENTER + float(rng.uniform(-0.2, 0.2)),
        weave=float(rng.uniform(0.0, 0.35)),
        weave_length=float(rng.uniform(28.0, 50.0)),
        weave_phase=float(rng.uniform(0.0, 2 * np.pi)),
        tilt=float(np.radians(rng.uniform(0.0, 0.2))),
    )


def _draw_light(rng: np.random.Generator) -> Light:
    """Draws the position of the sun, the brightness and a sky between overcast and blue."""
    azimuth, elevation = rng.uniform(0.0, 2 * np.pi), np.radians(rng.uniform(28.0, 65.0))
    level = np.cos(elevation)
    sun = np.array((level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)))
    blue = rng.uniform(0.0, 1.0)
    zenith = np.array((0.32, 0.52, 0.85)) * blue + np.array((0.66, 0.70, 0.76)) * (1 - blue)
    horizon = np.array((0.80, 0.86, 0.93)) * blue + np.array((0.82, 0.83, 0.85)) * (1 - blue)
    return Light(sun, float(rng.uniform(0.5, 0.7)), float(rng.uniform(0.85, 1.12)), zenith, horizon)
