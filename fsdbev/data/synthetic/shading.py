"""Colours of boxes, ground and sky: diffuse reflection of sun and sky light, procedural patterns.

Shapes: n pixels, P parts.

Diffuse surfaces follow Lambert's cosine law: the brightness is proportional to the cosine of the
angle between the surface normal and the direction of the sun.
"""

from __future__ import annotations

import numpy as np

from .parts import DIAGONAL, STRIPES, WINDOWS, Parts
from .raycast import BoxesInSensor
from .street import Street
from .world import Light

#: Depth in metres beyond which the ground has the colour of the horizon.
_GROUND_END = 300.0
#: Factor on the brightness of the ground in a shadow.
_SHADOW_LEVEL = 0.5
#: Metres from one floor of a building to the next.
_FLOOR_HEIGHT = 3.0


def shade_boxes(
    rays: tuple[np.ndarray, np.ndarray],
    depth: np.ndarray,
    part: np.ndarray,
    boxes: BoxesInSensor,
    parts: Parts,
    light: Light,
) -> np.ndarray:
    """Returns the (n, 3) colours at the points where rays hit parts.

    Args:
        rays: (n,) x and (n,) y of the ray directions (x, y, 1), camera frame.
        depth: (n,) depths of the hits, metres.
        part: (n,) indices of the parts hit.
        boxes: P boxes relative to the camera.
        parts: the same P boxes with their colours.
        light: light of the scene.
    """
    m = boxes.sensor2box
    local = m[:, :, 0][part] * rays[0][:, None]
    local += m[:, :, 1][part] * rays[1][:, None]
    local += m[:, :, 2][part]
    local *= depth[:, None]
    local += boxes.origin[part]
    # A point on the surface is on the face of the axis with the largest coordinate relative to the
    # half extent; rounding keeps it from being exactly 1.
    relative = np.abs(local) / boxes.half[part]
    axis = np.where(relative[:, 0] > relative[:, 1], 0, 1)
    axis[relative[:, 2] > np.maximum(relative[:, 0], relative[:, 1])] = 2
    positive = local[np.arange(len(part)), axis] > 0
    color = _patterned(local, axis, part, boxes.half, parts)
    level = _face_levels(parts, light)[part, axis, positive.astype(np.int8)]
    return color * level[:, None]


def _face_levels(parts: Parts, light: Light) -> np.ndarray:
    """Returns (P, 3, 2) float32 brightness of the faces: axis, negative or positive side."""
    toward_sun = np.einsum("pia,i->pa", parts.rotation, light.sun)
    upward = parts.rotation[:, 2, :]
    levels = []
    for sign in (-1.0, 1.0):
        # Faces that point up receive more light from the sky.
        ambient = light.ambient * (0.82 + 0.18 * sign * upward)
        levels.append(ambient + (1.15 - light.ambient) * np.maximum(sign * toward_sun, 0.0))
    return (np.stack(levels, axis=-1) * light.exposure).astype(np.float32)


def _patterned(
    local: np.ndarray, axis: np.ndarray, part: np.ndarray, half: np.ndarray, parts: Parts
) -> np.ndarray:
    """Returns (n, 3) colours of surface points before lighting.

    Args:
        local: (n, 3) points in the axes of their parts, metres.
        axis: (n,) axis of the face.
        part: (n,) indices of the parts.
        half: (P, 3) half extents.
        parts: P parts with colours and patterns.
    """
    color = parts.color[part]
    pattern = parts.pattern[part]
    for kind, covers in ((STRIPES, _stripes), (DIAGONAL, _diagonals), (WINDOWS, _windows)):
        index = np.flatnonzero(pattern == kind)
        if len(index):
            owner = part[index]
            covered = index[covers(local[index], axis[index], half[owner], parts.scale[owner])]
            color[covered] = parts.color2[part[covered]]
    return color


# The three patterns share a signature: (n, 3) points, (n,) axis of the face, (n, 3) half extents,
# (n,) period -> (n,) whether the second colour applies.
def _stripes(
    local: np.ndarray, axis: np.ndarray, half: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Selects stripes across the part's x axis."""
    return (local[:, 0] / scale) % 1.0 < 0.5


def _diagonals(
    local: np.ndarray, axis: np.ndarray, half: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Selects diagonal stripes in the part's y-z plane."""
    return ((local[:, 1] + 0.6 * local[:, 2]) / scale) % 1.0 < 0.5


def _windows(
    local: np.ndarray, axis: np.ndarray, half: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Selects windows on the side faces: columns by the period, rows by the floors."""
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
    """Returns (n, 3) colours and (n,) depths of ground or sky along rays; the sky has depth inf.

    Args:
        rays: (n,) x and (n,) y of the ray directions (x, y, 1), camera frame.
        cam2street: (4, 4) pose of the camera.
        street: ground surface.
        light: light of the scene.
        shadow: (n,) bool, whether a shadow covers the ground.
    """
    m, position = cam2street[:3].astype(np.float32)[:, :3], cam2street[:3, 3].astype(np.float32)
    x, y, z = (m[i, 0] * rays[0] + m[i, 1] * rays[1] + m[i, 2] for i in range(3))
    # Rays closer to the horizon would hit the ground beyond 10 km per metre of camera height.
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
    """Returns (n, 3) float32 sky colours at (n,) sines of the elevation."""
    blend = np.sqrt(np.clip(rise * 1.6, 0.0, 1.0)).astype(np.float32)[:, None]
    zenith, horizon = light.zenith.astype(np.float32), light.horizon.astype(np.float32)
    return horizon + blend * (zenith - horizon)
