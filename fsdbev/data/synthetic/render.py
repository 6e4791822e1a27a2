"""Rendering of camera images by ray casting, with exact occlusion through a depth buffer.

Shapes: P parts, A actors, n pixels, H x W image. Pixel (column j, row i) covers [j, j + 1) x
[i, i + 1).
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

#: Depth in metres beyond which boxes are not drawn.
FAR = 110.0
#: Depth in metres of the near plane, at which edges are cut before projection.
_CLIP = 0.1
#: Distance in metres over which haze replaces all but 1 / e of a colour.
_HAZE_DISTANCE = 260.0


@dataclass(frozen=True)
class View:
    """A camera at one time.

    Attributes:
        cam2street: (4, 4) pose.
        intrinsics: (3, 3), pixels.
        size: (width, height), pixels.
    """

    cam2street: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (W,) x and (H,) y of the ray directions (x, y, 1) through the pixel centres."""
        width, height = self.size
        k = self.intrinsics
        x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
        y = (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
        return x.astype(np.float32), y.astype(np.float32)


@dataclass(frozen=True)
class Picture:
    """A rendered image with per-pixel truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        owner: (H, W) int32 index of the actor at each pixel, -1 for ground, sky and scenery.
        depth: (H, W) float32 depth along the optical axis in metres, inf for the sky.
        covered: (A,) number of pixels an actor covers without occlusion.
        visible: (A,) number of pixels an actor covers with occlusion.
    """

    image: np.ndarray
    owner: np.ndarray
    depth: np.ndarray
    covered: np.ndarray
    visible: np.ndarray


def render_scene(
    view: View, parts: Parts, street: Street, light: Light, noise: np.ndarray, num_actors: int
) -> Picture:
    """Renders the world from a camera.

    Args:
        view: camera.
        parts: P boxes in the street frame.
        street: ground surface.
        light: light of the scene.
        noise: (H, W, 3) added to the colours in 0..1.
        num_actors: A, number of actors of the world.
    """
    parts = parts[_in_front(view, parts)]
    boxes = BoxesInSensor.of(parts, view.cam2street)
    rects = _rectangles(view, boxes)
    shown = np.flatnonzero((rects[:, 0] < rects[:, 2]) & (rects[:, 1] < rects[:, 3]))
    canvas = _Canvas(view, boxes, rects)
    covered = np.zeros(num_actors, dtype=np.int64)
    owners = parts.owner[shown]
    for part in shown[owners < 0]:
        canvas.draw(part)
    # Object by object, because ``covered`` needs the pixels of an object without the others.
    for owner in np.unique(owners[owners >= 0]):
        covered[owner] = canvas.draw_object(shown[owners == owner])
    image = _shade(view, canvas, boxes, parts, street, light)
    image += noise
    owner = np.where(canvas.part >= 0, parts.owner[canvas.part], -1) if len(parts) else canvas.part
    visible = np.bincount(owner[owner >= 0], minlength=num_actors)
    # + 0.5: the conversion truncates, which becomes rounding.
    pixels = (np.clip(image, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return Picture(pixels, owner, canvas.depth, covered, visible)


def _in_front(view: View, parts: Parts) -> np.ndarray:
    """Returns the indices of the parts whose bounding sphere intersects the view frustum."""
    rotation, position = view.cam2street[:3, :3], view.cam2street[:3, 3]
    center = (parts.center - position) @ rotation
    radius = np.linalg.norm(parts.half, axis=1)
    inside = (center[:, 2] > _CLIP - radius) & (center[:, 2] < FAR)
    for axis, extent in ((0, view.size[0]), (1, view.size[1])):
        focal, middle = view.intrinsics[axis, axis], view.intrinsics[axis, 2]
        for sign, bound in ((-1.0, middle), (1.0, extent - middle)):
            # Signed distance of the centre from the frustum's side plane x = edge * z.
            edge = bound / focal
            beyond = (sign * center[:, axis] - edge * center[:, 2]) / np.hypot(1.0, edge)
            inside &= beyond < radius
    return np.flatnonzero(inside)


def _rectangles(view: View, boxes: BoxesInSensor) -> np.ndarray:
    """Returns (P, 4) int32 pixel bounds of the boxes: left, top, right, bottom (exclusive).

    Bounds are clipped to the image. Edges are cut at the near plane, because corners behind the
    camera project to the wrong side.
    """
    start, end = boxes.corners[:, BOX_EDGES[:, 0]], boxes.corners[:, BOX_EDGES[:, 1]]
    depth_a, depth_b = start[..., 2], end[..., 2]
    crosses = (depth_a > _CLIP) != (depth_b > _CLIP)
    # Elsewhere the denominator may be 0.
    fraction = np.where(crosses, (_CLIP - depth_a) / np.where(crosses, depth_b - depth_a, 1.0), 0.0)
    cut = start + fraction[..., None] * (end - start)
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
    """Depth buffer of an image and the index of the nearest part at each pixel, -1 for none.

    Args:
        view: camera.
        boxes: P boxes relative to the camera.
        rects: (P, 4) pixel bounds of the boxes.
    """

    def __init__(self, view: View, boxes: BoxesInSensor, rects: np.ndarray) -> None:
        self.x, self.y = view.rays()
        self._boxes, self._rects = boxes, rects
        self.depth = np.full((view.size[1], view.size[0]), np.inf, dtype=np.float32)
        self.part = np.full((view.size[1], view.size[0]), -1, dtype=np.int32)

    def _hit(self, part: int, rect: np.ndarray) -> np.ndarray:
        """Returns the depth at which the rays of a rectangle enter a part, inf for a miss."""
        left, top, right, bottom = rect
        m = self._boxes.sensor2box[part]
        # The z component of a ray direction is 1, so the ray parameter is the depth. Rotating
        # columns and rows separately needs fewer products than rotating every ray.
        across = m[:, 0, None] * self.x[left:right]
        down = m[:, 1, None] * self.y[top:bottom] + m[:, 2, None]
        direction = down[:, :, None] + across[:, None, :]
        return hit_box(self._boxes.origin[part], self._boxes.half[part], direction)

    def draw(self, part: int) -> None:
        """Draws one part into the depth buffer."""
        left, top, right, bottom = rect = self._rects[part]
        self._keep_nearer(
            self.depth[top:bottom, left:right],
            self.part[top:bottom, left:right],
            self._hit(part, rect),
            part,
        )

    def draw_object(self, parts: np.ndarray) -> int:
        """Draws the parts of one object; returns its number of pixels without occlusion."""
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
        """Updates ``depth`` and ``part`` in place where ``new_depth`` is smaller."""
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
    """Returns (H, W, 3) float32 colours; writes the depth of the ground into the depth buffer."""
    width, height = view.size
    nearest = canvas.part.ravel()
    pattern = parts.pattern[nearest] if len(parts) else np.zeros(len(nearest), dtype=np.int8)
    # Shadows are flat boxes that select the pixels at which the ground is darker.
    shadow = (nearest >= 0) & (pattern == SHADOW)
    solid = np.flatnonzero((nearest >= 0) & ~shadow)
    ground = np.flatnonzero((nearest < 0) | shadow)
    image = np.empty((height * width, 3), dtype=np.float32)
    # ravel returns a view: the assignment below fills canvas.depth.
    depth = canvas.depth.ravel()
    if len(solid):
        rays = canvas.x[solid % width], canvas.y[solid // width]
        image[solid] = shade_boxes(rays, depth[solid], nearest[solid], boxes, parts, light)
    rays = canvas.x[ground % width], canvas.y[ground // width]
    image[ground], depth[ground] = shade_ground(
        rays, view.cam2street, street, light, shadow[ground]
    )
    haze = (1.0 - np.exp(depth * np.float32(-1 / _HAZE_DISTANCE)))[:, None]
    # The sky has its colours already; haze would replace all of it by the horizon's colour.
    haze[np.isinf(depth)] = 0.0
    image += haze * (light.horizon.astype(np.float32) - image)
    return image.reshape(height, width, 3)
