"""Colours of boxes, ground and sky: Lambert's law with a sun, procedural patterns.

Shapes: n pixels, P parts.
"""

from __future__ import annotations

import numpy as np

from .parts import DIAGONAL, STRIPES, WINDOWS, Parts
from .raycast import BoxesInSensor
from .street import Street
from .world import Light

#: Beyond this distance (m) the ground is drawn as haze.
_GROUND_END = 300.0
_SHADOW_LEVEL = 0.5
_FLOOR_HEIGHT = 3.0


def shade_boxes(
    rays: tuple[np.ndarray, np.ndarray],
    depth: np.ndarray,
    part: np.ndarray,
    boxes: BoxesInSensor,
    parts: Parts,
    light: Light,
) -> np.ndarray:
    """(n, 3) colours of the parts hit by rays (x, y, 1) at (n,) depths."""
    m = boxes.sensor2box
    local = m[:, :, 0][part] * rays[0][:, None]
    local += m[:, :, 1][part] * rays[1][:, None]
    local += m[:, :, 2][part]
    local *= depth[:, None]
    local += boxes.origin[part]
    share = np.abs(local) / boxes.half[part]
    axis = np.where(share[:, 0] > share[:, 1], 0, 1)
    axis[share[:, 2] > np.maximum(share[:, 0], share[:, 1])] = 2
    positive = local[np.arange(len(part)), axis] > 0
    color = _patterned(local, axis, part, boxes.half, parts)
    level = _face_levels(parts, light)[part, axis, positive.astype(np.int8)]
    return color * level[:, None]


def _face_levels(parts: Parts, light: Light) -> np.ndarray:
    """(P, 3, 2) float32 brightness of each part's faces: axis, negative or positive side."""
    toward_sun = np.einsum("pia,i->pa", parts.rotation, light.sun)
    upward = parts.rotation[:, 2, :]
    levels = []
    for sign in (-1.0, 1.0):
        ambient = light.ambient * (0.82 + 0.18 * sign * upward)
        levels.append(ambient + (1.15 - light.ambient) * np.maximum(sign * toward_sun, 0.0))
    return (np.stack(levels, axis=-1) * light.exposure).astype(np.float32)


def _patterned(
    local: np.ndarray, axis: np.ndarray, part: np.ndarray, half: np.ndarray, parts: Parts
) -> np.ndarray:
    """(n, 3) colours of surface points given in their part's axes, before lighting."""
    color = parts.color[part]
    pattern = parts.pattern[part]
    for kind, covers in ((STRIPES, _stripes), (DIAGONAL, _diagonals), (WINDOWS, _windows)):
        index = np.flatnonzero(pattern == kind)
        if len(index):
            which = part[index]
            hit = index[covers(local[index], axis[index], half[which], parts.scale[which])]
            color[hit] = parts.color2[part[hit]]
    return color


def _stripes(
    local: np.ndarray, axis: np.ndarray, half: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    return (local[:, 0] / scale) % 1.0 < 0.5


def _diagonals(
    local: np.ndarray, axis: np.ndarray, half: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    return ((local[:, 1] + 0.6 * local[:, 2]) / scale) % 1.0 < 0.5


def _windows(
    local: np.ndarray, axis: np.ndarray, half: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    along = np.where(axis == 0, local[:, 1], local[:, 0]) / scale % 1.0
    floors = np.maximum(np.round(2 * half[:, 2] / _FLOOR_HEIGHT), 1.0)
    level = (local[:, 2] / (2 * half[:, 2]) + 0.5) * floors % 1.0
    return (axis != 2) & (along > 0.18) & (along < 0.85) & (level > 0.18) & (level < 0.82)


def shade_ground(
    rays: tuple[np.ndarray, np.ndarray],
    cam2street: np.ndarray,
    street: Street,
    light: Light,
    shadow: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Ground or sky along rays (x, y, 1): (n, 3) colours and (n,) depths, inf for the sky."""
    m, position = cam2street[:3].astype(np.float32)[:, :3], cam2street[:3, 3].astype(np.float32)
    x, y, z = (m[i, 0] * rays[0] + m[i, 1] * rays[1] + m[i, 2] for i in range(3))
    below = z < -1e-4
    depth = np.where(below, -position[2] / np.where(below, z, -1.0), np.float32(np.inf))
    ground = np.flatnonzero(depth < _GROUND_END)
    color = _sky(z / np.sqrt(x * x + y * y + z * z), light)
    t = depth[ground]
    surface = street.colors(position[0] + t * x[ground], position[1] + t * y[ground], t)
    level = light.exposure * (light.ambient + (1.15 - light.ambient) * light.sun[2])
    darkness = np.where(shadow[ground], np.float32(_SHADOW_LEVEL), np.float32(1.0))
    color[ground] = surface * (np.float32(level) * darkness)[:, None]
    return color, depth


def _sky(rise: np.ndarray, light: Light) -> np.ndarray:
    """(n, 3) float32 sky colours at sines of elevation."""
    share = np.sqrt(np.clip(rise * 1.6, 0.0, 1.0)).astype(np.float32)[:, None]
    zenith, horizon = light.zenith.astype(np.float32), light.horizon.astype(np.float32)
    return horizon + share * (zenith - horizon)
