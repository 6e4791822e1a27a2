"""A 32-beam lidar by ray casting. All rays of a turn have the same time, as in sweeps after motion
compensation.

Shapes: P parts, N points, "beams" x "steps" rays of a turn.
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
#: Maximum range in metres.
MAX_RANGE = 90.0
#: Standard deviation and limit of the range noise, metres. The limit is below ``parts.MARGIN``, so
#: that points of an object stay inside its annotation box.
_NOISE, _NOISE_LIMIT = 0.006, 0.012
#: Limit of the vertical noise of ground points in metres, below ``crowd.CLEARANCE``.
_GROUND_NOISE_LIMIT = 0.009
#: Probability that a ray has no return.
_DROPOUT = 0.01
#: Distance in metres over which the share of returns of an actor with a reflectance falls to 1 / e.
_FADING = 60.0


@dataclass(frozen=True)
class Sweep:
    """A LiDAR sweep with the origin of every point.

    Attributes:
        points: (N, 5) float32 x, y, z in the lidar frame (m), intensity 0..255, beam 0..31.
        labels: (N,) uint8 lidarseg index.
        owner: (N,) int32 index of the actor at the point, -1 for ground and scenery.
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
    reflectance: np.ndarray | None = None,
) -> Sweep:
    """Simulates one turn of the lidar; rays without a return produce no point.

    Args:
        parts: P boxes in the street frame.
        street: ground surface.
        lidar2street: (4, 4) pose of the lidar.
        num_azimuths: number of azimuth steps of a turn.
        rng: random generator of dropouts, range noise and intensities, in this order.
        reflectance: (A,) share of the rays that each actor reflects; it fades with the distance.
            None if all rays return but for dropouts.
    """
    parts = parts[np.linalg.norm(parts.center - lidar2street[:3, 3], axis=1) < MAX_RANGE]
    elevation = np.radians(BEAM_ELEVATIONS)
    azimuth = np.pi - (np.arange(num_azimuths) + 0.5) * (2 * np.pi / num_azimuths)
    rays = _rays(elevation, azimuth)
    distance, part = _cast(parts, lidar2street, elevation, azimuth)
    ground = _ground_distance(rays, lidar2street)
    on_ground = ground < distance
    part[on_ground] = -1
    distance = np.where(on_ground, ground, distance)
    lost = _DROPOUT
    if reflectance is not None and len(parts):
        # -1 for ground and scenery.
        owner = np.where(part < 0, -1, parts.owner[part])
        lost = np.where(owner < 0, lost, 1 - reflectance[owner] * np.exp(-distance / _FADING))
    returned = (distance < MAX_RANGE) & (rng.random(distance.shape) >= lost)
    # Points in the order of firing: all beams of one azimuth step, then the next step.
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
    """Returns (3, beams, steps) unit directions in the lidar frame; angles in rad."""
    level = np.cos(elevation)[:, None]
    up = np.broadcast_to(np.sin(elevation)[:, None], (len(elevation), len(azimuth)))
    return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), up])


def _cast(
    parts: Parts, lidar2street: np.ndarray, elevation: np.ndarray, azimuth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distance to the nearest box and the box's index, inf and -1 for rays without a
    hit; both (beams, steps)."""
    distance = np.full((len(elevation), len(azimuth)), np.inf, dtype=np.float32)
    nearest = np.full(distance.shape, -1, dtype=np.int32)
    boxes = BoxesInSensor.of(parts, lidar2street)
    first, last, start, stop = _ray_windows(boxes, elevation, azimuth)
    level, up = np.cos(elevation).astype(np.float32), np.sin(elevation).astype(np.float32)
    cos, sin = np.cos(azimuth).astype(np.float32), np.sin(azimuth).astype(np.float32)
    steps = len(azimuth)
    for part in np.flatnonzero((first < last) & (start < stop)):
        # The window may extend past the end of the turn; columns wrap around.
        rows = slice(first[part], last[part])
        columns = np.arange(start[part], stop[part]) % steps
        m = boxes.sensor2box[part]
        # The rotation is applied to azimuth and elevation separately, then combined to the
        # (3, rows, columns) directions: fewer products than rotating every ray.
        around = m[:, 0, None] * cos[columns] + m[:, 1, None] * sin[columns]
        direction = level[rows, None] * around[:, None, :] + (m[:, 2, None] * up[rows])[:, :, None]
        new = hit_box(boxes.origin[part], boxes.half[part], direction)
        old = distance[rows, columns]
        nearer = new < old
        distance[rows, columns] = np.where(nearer, new, old)
        nearest[rows, columns] = np.where(nearer, part, nearest[rows, columns])
    return distance, nearest


def _ray_windows(
    boxes: BoxesInSensor, elevation: np.ndarray, azimuth: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns bounds of the rays that can hit each box: beams [first, last), steps [start, stop).

    Steps continue past the end of the turn, so that ``start <= stop`` for a box across the seam.
    """
    steps = len(azimuth)
    corner_distance = np.hypot(boxes.corners[..., 0], boxes.corners[..., 1])
    center_distance = np.hypot(boxes.center[:, 0], boxes.center[:, 1])
    radius = np.hypot(
        boxes.corners[..., 0] - boxes.center[:, None, 0],
        boxes.corners[..., 1] - boxes.center[:, None, 1],
    ).max(axis=1)
    closest, farthest = np.maximum(center_distance - radius, 0.05), corner_distance.max(axis=1)
    top, bottom = boxes.corners[..., 2].max(axis=1), boxes.corners[..., 2].min(axis=1)
    # A height above the lidar has its largest elevation at the closest point and its smallest at
    # the farthest point of the box; a height below the lidar the other way round.
    highest = np.arctan2(top, np.where(top > 0, closest, farthest))
    lowest = np.arctan2(bottom, np.where(bottom < 0, closest, farthest))
    first = np.searchsorted(elevation, lowest, side="left")
    last = np.searchsorted(elevation, highest, side="right")

    heading = np.arctan2(boxes.center[:, 1], boxes.center[:, 0])
    offset = np.arctan2(boxes.corners[..., 1], boxes.corners[..., 0]) - heading[:, None]
    offset = (offset + np.pi) % (2 * np.pi) - np.pi
    # Where the lidar is inside the circle around a box, the box may cover any azimuth.
    all_around = center_distance <= radius
    low = np.where(all_around, -np.pi, offset.min(axis=1))
    high = np.where(all_around, np.pi, offset.max(axis=1))
    # Inverse of the azimuths in ``scan``: pi - (step + 0.5) * 2 pi / steps, clockwise.
    to_step = steps / (2 * np.pi)
    start = np.ceil((np.pi - (heading + high)) * to_step - 0.5).astype(np.int64)
    stop = np.floor((np.pi - (heading + low)) * to_step - 0.5).astype(np.int64) + 1
    return first, last, start, np.minimum(stop, start + steps)


def _ground_distance(rays: np.ndarray, lidar2street: np.ndarray) -> np.ndarray:
    """Returns the (beams, steps) distance to the plane z = 0, inf at and above the horizon."""
    vertical = np.tensordot(lidar2street[2, :3], rays, axes=1)
    return np.where(vertical < -1e-3, lidar2street[2, 3] / np.maximum(-vertical, 1e-3), np.inf)


def _draw_noise(
    part: np.ndarray, rays: np.ndarray, lidar2street: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws (N,) range noise in metres.

    It is small enough that points of an object stay inside its annotation box (``parts.MARGIN``)
    and points of the ground stay below all boxes (``crowd.CLEARANCE``).
    """
    noise = np.clip(rng.normal(0.0, _NOISE, size=len(part)), -_NOISE_LIMIT, _NOISE_LIMIT)
    # Range noise changes the height of a point by its product with the vertical part of the ray.
    vertical = np.abs(rays @ lidar2street[2, :3])
    limit = _GROUND_NOISE_LIMIT / np.maximum(vertical, 1e-3)
    return np.where(part < 0, np.clip(noise, -limit, limit), noise)


def _identify(
    xyz: np.ndarray, part: np.ndarray, parts: Parts, street: Street, lidar2street: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (N,) lidarseg labels and owners of (N, 3) points in the lidar frame."""
    in_street = transform_points(xyz, lidar2street)
    labels = street.labels(in_street[:, 0], in_street[:, 1])
    owner = np.full(len(part), -1, dtype=np.int32)
    solid = part >= 0
    labels[solid] = parts.label[part[solid]]
    owner[solid] = parts.owner[part[solid]]
    return labels, owner


def _intensity(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws (N,) integer intensities in 0..255 around a mean that depends on the lidarseg label."""
    mean = 8.0 + (labels.astype(float) * 37.0) % 60.0
    return np.clip(np.round(rng.normal(mean, 5.0)), 0, 255)
