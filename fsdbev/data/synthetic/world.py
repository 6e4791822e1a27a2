"""A scene's world: the street, the ego vehicle, who moves, what stands, and the light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .crowd import CLEARANCE, Actor, Crowd
from .options import SyntheticOptions
from .parts import SHADOW, Parts
from .planner import Planner
from .scenery import draw_scenery
from .street import LANE_CENTER, Street
from .trajectory import EgoTrajectory, Road, rotation_z

#: Seconds between key frames.
FRAME_PERIOD = 0.5
#: Objects stand from this far behind the start to this far beyond the end of the ego's way, m.
BEHIND, AHEAD = 24.0, 26.0
#: How far a shadow's middle lies from its object, as a share of the full length of the shadow.
_SHADOW_LEAN = 0.25
_EGO_SIZE = (4.7, 2.0)


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
        rotations = _turns(poses)
        feet = np.column_stack([poses[:, :2], np.full(len(poses), CLEARANCE)])
        shapes = Parts.concatenate([actor.shape for actor in self.actors])
        moved = shapes.moved(rotations[shapes.owner], feet[shapes.owner])
        return Parts.concatenate([moved, self.scenery])

    def shadows_at(self, t: float) -> Parts:
        """Flat boxes on the ground that darken it under the actors."""
        poses = self.poses_at(t)
        sizes = np.array([actor.size for actor in self.actors]).reshape(-1, 3)
        count = len(poses)
        lean = -_SHADOW_LEAN * self.light.sun[:2] / self.light.sun[2]
        center = np.column_stack([poses[:, :2] + lean * sizes[:, 2:], np.zeros(count)])
        half = np.column_stack([sizes[:, :2] / 2 + 0.05, np.full(count, 0.004)])
        black = np.zeros((count, 3), dtype=np.float32)
        return Parts(
            center,
            half,
            _turns(poses),
            black,
            black,
            np.full(count, SHADOW, dtype=np.int8),
            np.ones(count, dtype=np.float32),
            np.full(count, -1, dtype=np.int32),
            np.zeros(count, dtype=np.uint8),
        )


def _turns(poses: np.ndarray) -> np.ndarray:
    """(A, 3) x, y, heading -> (A, 3, 3) rotations."""
    return np.array([rotation_z(heading) for heading in poses[:, 2]]).reshape(-1, 3, 3)


def build_world(options: SyntheticOptions, rng: np.random.Generator) -> World:
    """A new world for one scene."""
    duration = (options.frames - 1) * FRAME_PERIOD
    curvature = float(rng.choice((-1.0, 0.0, 1.0))) / rng.uniform(150.0, 300.0)
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
    scenery = draw_scenery(street, span, rng)
    for place in scenery.places:
        crowd.reserve(place.stand.pose(times), place.extent, place.extent)
    planner = Planner(crowd, street, span, options.density, rng)
    planner.fill(ego)
    return World(street, ego, crowd.actors, scenery.parts, _draw_light(rng), span)


def _draw_ego(road: Road, duration: float, rng: np.random.Generator) -> EgoTrajectory:
    first, last = rng.uniform(0.8, 4.0, size=2)
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


def _draw_light(rng: np.random.Generator) -> Light:
    azimuth, elevation = rng.uniform(0.0, 2 * np.pi), np.radians(rng.uniform(28.0, 65.0))
    level = np.cos(elevation)
    sun = np.array((level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)))
    blue = rng.uniform(0.0, 1.0)
    zenith = np.array((0.32, 0.52, 0.85)) * blue + np.array((0.66, 0.70, 0.76)) * (1 - blue)
    horizon = np.array((0.80, 0.86, 0.93)) * blue + np.array((0.82, 0.83, 0.85)) * (1 - blue)
    return Light(sun, float(rng.uniform(0.5, 0.7)), float(rng.uniform(0.85, 1.12)), zenith, horizon)
