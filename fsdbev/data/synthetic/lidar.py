"""A 32-beam lidar by ray casting: one turn at one time, as after motion compensation.

Shapes: P parts, N points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fsdbev.structures import transform_points

from .parts import Parts
from .raycast import BoxesInSensor, hit_box
from .street import Street

#: Elevations in degrees of the 32 beams, lowest first, as in nuScenes.
BEAM_ELEVATIONS = np.linspace(-30.67, 10.67, 32)
MAX_RANGE = 90.0
_NOISE, _NOISE_LIMIT = 0.006, 0.012
_GROUND_NOISE_LIMIT = 0.009
_DROPOUT = 0.01


@dataclass(frozen=True)
class Sweep:
    """Attributes:
    points: (N, 5) float32 x, y, z in the lidar frame (m), intensity 0..255, beam 0..31.
    labels: (N,) uint8 lidarseg class.
    owner: (N,) int32 actor hit, -1 for anything else.
    """

    points: np.ndarray
    labels: np.ndarray
    owner: np.ndarray


def scan(
    parts: Parts,
    street: Street,
    lidar2street: np.ndarray,
    num_azimuths: int,
    rng: np.random.Generator,
) -> Sweep:
    """One turn of the lidar over parts (street frame); rays without a return give no point."""
    parts = parts[np.linalg.norm(parts.center - lidar2street[:3, 3], axis=1) < MAX_RANGE]
    elevation = np.radians(BEAM_ELEVATIONS)
    azimuth = np.pi - (np.arange(num_azimuths) + 0.5) * (2 * np.pi / num_azimuths)
    rays = _rays(elevation, azimuth)
    distance, part = _cast(parts, lidar2street, elevation, azimuth)
    ground = _ground_distance(rays, lidar2street)
    on_ground = ground < distance
    part[on_ground] = -1
    distance = np.where(on_ground, ground, distance)
    returned = (distance < MAX_RANGE) & (rng.random(distance.shape) >= _DROPOUT)
    beam, step = np.nonzero(returned)
    order = np.lexsort((beam, step))
    beam, step = beam[order], step[order]
    part, distance, rays = part[beam, step], distance[beam, step], rays[:, beam, step].T
    noise = _draw_noise(part, rays, lidar2street, rng)
    xyz = (distance + noise)[:, None] * rays
    labels, owner = _identify(xyz, part, parts, street, lidar2street)
    intensity = _intensity(labels, rng)
    return Sweep(np.column_stack([xyz, intensity, beam]).astype(np.float32), labels, owner)


def _rays(elevation: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """(3, beams, steps) unit directions in the lidar frame."""
    level = np.cos(elevation)[:, None]
    up = np.broadcast_to(np.sin(elevation)[:, None], (len(elevation), len(azimuth)))
    return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), up])


def _cast(
    parts: Parts, lidar2street: np.ndarray, elevation: np.ndarray, azimuth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the nearest box and its index (or inf, -1), both (beams, steps)."""
    distance = np.full((len(elevation), len(azimuth)), np.inf, dtype=np.float32)
    nearest = np.full(distance.shape, -1, dtype=np.int32)
    boxes = BoxesInSensor.of(parts, lidar2street)
    first, last, start, stop = _windows(boxes, elevation, azimuth)
    level, up = np.cos(elevation).astype(np.float32), np.sin(elevation).astype(np.float32)
    cos, sin = np.cos(azimuth).astype(np.float32), np.sin(azimuth).astype(np.float32)
    steps = len(azimuth)
    for part in np.flatnonzero((first < last) & (start < stop)):
        rows = slice(first[part], last[part])
        columns = np.arange(start[part], stop[part]) % steps
        m = boxes.sensor2box[part]
        around = m[:, 0, None] * cos[columns] + m[:, 1, None] * sin[columns]
        direction = level[rows, None] * around[:, None, :] + (m[:, 2, None] * up[rows])[:, :, None]
        new = hit_box(boxes.origin[part], boxes.half[part], direction)
        old = distance[rows, columns]
        nearer = new < old
        distance[rows, columns] = np.where(nearer, new, old)
        nearest[rows, columns] = np.where(nearer, part, nearest[rows, columns])
    return distance, nearest


def _windows(
    boxes: BoxesInSensor, elevation: np.ndarray, azimuth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Beam rows [first, last) and azimuth steps [start, stop) that can hit each box; steps count
    on past the end of the turn."""
    steps = len(azimuth)
    flat = np.hypot(boxes.corners[..., 0], boxes.corners[..., 1])
    middle = np.hypot(boxes.center[:, 0], boxes.center[:, 1])
    radius = np.hypot(
        boxes.corners[..., 0] - boxes.center[:, None, 0],
        boxes.corners[..., 1] - boxes.center[:, None, 1],
    ).max(axis=1)
    closest, farthest = np.maximum(middle - radius, 0.05), flat.max(axis=1)
    top, bottom = boxes.corners[..., 2].max(axis=1), boxes.corners[..., 2].min(axis=1)
    highest = np.arctan2(top, np.where(top > 0, closest, farthest))
    lowest = np.arctan2(bottom, np.where(bottom < 0, closest, farthest))
    first = np.searchsorted(elevation, lowest, side="left")
    last = np.searchsorted(elevation, highest, side="right")

    heading = np.arctan2(boxes.center[:, 1], boxes.center[:, 0])
    turn = np.arctan2(boxes.corners[..., 1], boxes.corners[..., 0]) - heading[:, None]
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    around = middle <= radius
    low = np.where(around, -np.pi, turn.min(axis=1))
    high = np.where(around, np.pi, turn.max(axis=1))
    to_step = steps / (2 * np.pi)
    start = np.ceil((np.pi - (heading + high)) * to_step - 0.5).astype(np.int64)
    stop = np.floor((np.pi - (heading + low)) * to_step - 0.5).astype(np.int64) + 1
    return first, last, start, np.minimum(stop, start + steps)


def _ground_distance(rays: np.ndarray, lidar2street: np.ndarray) -> np.ndarray:
    """(beams, steps) distance to the plane z = 0, inf above the horizon."""
    fall = np.tensordot(lidar2street[2, :3], rays, axes=1)
    return np.where(fall < -1e-3, lidar2street[2, 3] / np.maximum(-fall, 1e-3), np.inf)


def _draw_noise(
    part: np.ndarray, rays: np.ndarray, lidar2street: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(N,) range noise in metres: small enough that points of an object stay in its annotation
    box (``parts.MARGIN``) and points of the ground below it (``crowd.CLEARANCE``)."""
    noise = np.clip(rng.normal(0.0, _NOISE, size=len(part)), -_NOISE_LIMIT, _NOISE_LIMIT)
    fall = np.abs(rays @ lidar2street[2, :3])
    limit = _GROUND_NOISE_LIMIT / np.maximum(fall, 1e-3)
    return np.where(part < 0, np.clip(noise, -limit, limit), noise)


def _identify(
    xyz: np.ndarray, part: np.ndarray, parts: Parts, street: Street, lidar2street: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) lidarseg labels and owners of points in the lidar frame."""
    in_street = transform_points(xyz, lidar2street)
    labels = street.labels(in_street[:, 0], in_street[:, 1])
    owner = np.full(len(part), -1, dtype=np.int32)
    solid = part >= 0
    labels[solid] = parts.label[part[solid]]
    owner[solid] = parts.owner[part[solid]]
    return labels, owner


def _intensity(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) whole numbers 0..255: each material has its own mean."""
    mean = 8.0 + (labels.astype(float) * 37.0) % 60.0
    return np.clip(np.round(rng.normal(mean, 5.0)), 0, 255)
