"""A camera image of the world by ray casting: exact occlusion through a depth buffer.

Shapes: P parts, A actors, n pixels. Pixel (column j, row i) covers [j, j + 1) x [i, i + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fsdbev.structures import BOX_EDGES

from .parts import SHADOW, Parts
from .raycast import BoxesInSensor, hit_box
from .shading import shade_boxes, shade_ground
from .street import Street
from .world import Light

#: Boxes beyond this distance (m) are not drawn.
FAR = 110.0
_CLIP = 0.1


@dataclass(frozen=True)
class View:
    """One camera at one time: (4, 4) cam2street, (3, 3) intrinsics, (width, height)."""

    cam2street: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """(W,) x and (H,) y of the ray directions (x, y, 1) through the pixel centres."""
        width, height = self.size
        k = self.intrinsics
        x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
        y = (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
        return x.astype(np.float32), y.astype(np.float32)


@dataclass(frozen=True)
class Picture:
    """What a camera sees.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        owner: (H, W) int32 index of the actor at each pixel, -1 for anything else.
        depth: (H, W) float32 depth along the optical axis in metres, inf for the sky.
        covered: (A,) pixels an actor would cover with nothing in front of it.
        visible: (A,) pixels where it is seen.
    """

    image: np.ndarray
    owner: np.ndarray
    depth: np.ndarray
    covered: np.ndarray
    visible: np.ndarray


def render(
    view: View, parts: Parts, street: Street, light: Light, noise: np.ndarray, num_actors: int
) -> Picture:
    """The picture of the parts (street frame) on their street; (H, W, 3) ``noise`` is added."""
    parts = parts[_in_front(view, parts)]
    boxes = BoxesInSensor.of(parts, view.cam2street)
    rects = _rectangles(view, boxes)
    shown = np.flatnonzero((rects[:, 0] < rects[:, 2]) & (rects[:, 1] < rects[:, 3]))
    canvas = _Canvas(view, boxes, rects)
    covered = np.zeros(num_actors, dtype=np.int64)
    owners = parts.owner[shown]
    for part in shown[owners < 0]:
        canvas.draw(part)
    for owner in np.unique(owners[owners >= 0]):
        covered[owner] = canvas.draw_object(shown[owners == owner])
    image = _shade(view, canvas, boxes, parts, street, light)
    image += noise
    owner = np.where(canvas.part >= 0, parts.owner[canvas.part], -1) if len(parts) else canvas.part
    visible = np.bincount(owner[owner >= 0], minlength=num_actors)
    pixels = (np.clip(image, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return Picture(pixels, owner, canvas.depth, covered, visible)


def _in_front(view: View, parts: Parts) -> np.ndarray:
    """Indices of the parts whose bounding sphere may be in the field of view."""
    rotation, position = view.cam2street[:3, :3], view.cam2street[:3, 3]
    center = (parts.center - position) @ rotation
    radius = np.linalg.norm(parts.half, axis=1)
    inside = (center[:, 2] > _CLIP - radius) & (center[:, 2] < FAR)
    for axis, extent in ((0, view.size[0]), (1, view.size[1])):
        focal, middle = view.intrinsics[axis, axis], view.intrinsics[axis, 2]
        for sign, bound in ((-1.0, middle), (1.0, extent - middle)):
            edge = bound / focal
            beyond = (sign * center[:, axis] - edge * center[:, 2]) / np.hypot(1.0, edge)
            inside &= beyond < radius
    return np.flatnonzero(inside)


def _rectangles(view: View, boxes: BoxesInSensor) -> np.ndarray:
    """(P, 4) int pixel bounds left, top, right, bottom (exclusive) of the boxes, clipped to the
    image; edges are cut at the near plane."""
    start, end = boxes.corners[:, BOX_EDGES[:, 0]], boxes.corners[:, BOX_EDGES[:, 1]]
    depth_a, depth_b = start[..., 2], end[..., 2]
    crosses = (depth_a > _CLIP) != (depth_b > _CLIP)
    share = np.where(crosses, (_CLIP - depth_a) / np.where(crosses, depth_b - depth_a, 1.0), 0.0)
    cut = start + share[..., None] * (end - start)
    points = np.concatenate([boxes.corners, cut], axis=1)
    valid = np.concatenate([boxes.corners[..., 2] > _CLIP, crosses], axis=1)
    depth = np.where(valid, points[..., 2], 1.0)
    bounds = []
    for axis, extent in ((0, view.size[0]), (1, view.size[1])):
        focal, middle = view.intrinsics[axis, axis], view.intrinsics[axis, 2]
        pixel = points[..., axis] / depth * focal + middle
        low = np.where(valid, pixel, np.inf).min(axis=1)
        high = np.where(valid, pixel, -np.inf).max(axis=1)
        bounds.append(np.clip(np.floor(low), 0, extent))
        bounds.append(np.clip(np.ceil(high), 0, extent))
    return np.stack([bounds[0], bounds[2], bounds[1], bounds[3]], axis=1).astype(np.int32)


class _Canvas:
    """The depth buffer, and which part is seen at each pixel."""

    def __init__(self, view: View, boxes: BoxesInSensor, rects: np.ndarray) -> None:
        self.x, self.y = view.rays()
        self._boxes, self._rects = boxes, rects
        self.depth = np.full((view.size[1], view.size[0]), np.inf, dtype=np.float32)
        self.part = np.full((view.size[1], view.size[0]), -1, dtype=np.int32)

    def _hit(self, part: int, rect: np.ndarray) -> np.ndarray:
        left, top, right, bottom = rect
        m = self._boxes.sensor2box[part]
        across = m[:, 0, None] * self.x[left:right]
        down = m[:, 1, None] * self.y[top:bottom] + m[:, 2, None]
        direction = down[:, :, None] + across[:, None, :]
        return hit_box(self._boxes.origin[part], self._boxes.half[part], direction)

    def draw(self, part: int) -> None:
        """Draws one part."""
        left, top, right, bottom = rect = self._rects[part]
        self._keep_nearer(
            self.depth[top:bottom, left:right],
            self.part[top:bottom, left:right],
            self._hit(part, rect),
            part,
        )

    def draw_object(self, parts: np.ndarray) -> int:
        """Draws the parts of one object; returns how many pixels it covers by itself."""
        rects = self._rects[parts]
        (left, top), (right, bottom) = rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0)
        depth = np.full((bottom - top, right - left), np.inf, dtype=np.float32)
        index = np.full(depth.shape, -1, dtype=np.int32)
        for part, rect in zip(parts, rects, strict=True):
            window = slice(rect[1] - top, rect[3] - top), slice(rect[0] - left, rect[2] - left)
            self._keep_nearer(depth[window], index[window], self._hit(part, rect), part)
        window = slice(top, bottom), slice(left, right)
        self._keep_nearer(self.depth[window], self.part[window], depth, index)
        return int(np.count_nonzero(index >= 0))

    @staticmethod
    def _keep_nearer(
        depth: np.ndarray, part: np.ndarray, new_depth: np.ndarray, new_part: int | np.ndarray
    ) -> None:
        nearer = new_depth < depth
        np.copyto(depth, new_depth, where=nearer)
        np.copyto(part, new_part, where=nearer)


def _shade(
    view: View,
    canvas: _Canvas,
    boxes: BoxesInSensor,
    parts: Parts,
    street: Street,
    light: Light,
) -> np.ndarray:
    """(H, W, 3) float32 colours; fills the ground into the depth buffer."""
    width, height = view.size
    seen = canvas.part.ravel()
    pattern = parts.pattern[seen] if len(parts) else np.zeros(len(seen), dtype=np.int8)
    shadow = (seen >= 0) & (pattern == SHADOW)
    solid = np.flatnonzero((seen >= 0) & ~shadow)
    ground = np.flatnonzero((seen < 0) | shadow)
    image = np.empty((height * width, 3), dtype=np.float32)
    depth = canvas.depth.ravel()
    if len(solid):
        rays = canvas.x[solid % width], canvas.y[solid // width]
        image[solid] = shade_boxes(rays, depth[solid], seen[solid], boxes, parts, light)
    rays = canvas.x[ground % width], canvas.y[ground // width]
    image[ground], depth[ground] = shade_ground(
        rays, view.cam2street, street, light, shadow[ground]
    )
    haze = (1.0 - np.exp(depth * np.float32(-1 / 260.0)))[:, None]
    haze[np.isinf(depth)] = 0.0
    image += haze * (light.horizon.astype(np.float32) - image)
    return image.reshape(height, width, 3)
