"""Rendering of camera images by ray casting, with exact occlusion through a depth buffer.

Shapes: P parts, A actors, n pixels, H x W image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fsdbev.structures import BOX_EDGES

from .parts import SHADOW, Parts
from .raycast import BoxesInSensor, hit_box
from .shading import shade_boxes, shade_ground
from .street import Street
from .view import Rays, View
from .world import Light

#: Depth in metres beyond which boxes are not drawn.
FAR = 110.0
#: Depth in metres of the near plane, at which edges are cut before projection.
_CLIP = 0.1
#: Distance in metres over which haze replaces all but 1 / e of a colour.
_HAZE_DISTANCE = 260.0


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
    rays = view.rays()
    parts = parts[_in_front(view.cam2street, rays, parts)]
    boxes = BoxesInSensor.of(parts, view.cam2street)
    rects = _rectangles(view, boxes)
    shown = np.flatnonzero((rects[:, 0] < rects[:, 2]) & (rects[:, 1] < rects[:, 3]))
    canvas = _Canvas(rays, view.size, boxes, rects)
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


def _in_front(cam2street: np.ndarray, rays: Rays, parts: Parts) -> np.ndarray:
    """Returns the indices of the parts whose bounding sphere intersects the view frustum."""
    rotation, position = cam2street[:3, :3], cam2street[:3, 3]
    center = (parts.center - position) @ rotation
    radius = np.linalg.norm(parts.half, axis=1)
    inside = (center[:, 2] > _CLIP - radius) & (center[:, 2] < FAR)
    for axis, values in enumerate(rays):
        for sign, edge in ((-1.0, -values.min()), (1.0, values.max())):
            # Signed distance of the centre from the frustum's side plane x = edge * z.
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
    valid = np.concatenate([boxes.corners[..., 2] > _CLIP, crosses], axis=1)[..., None]
    rays = points[..., :2] / np.where(valid, points[..., 2:], 1.0)
    low = np.where(valid, rays, np.inf).min(axis=1)
    high = np.where(valid, rays, -np.inf).max(axis=1)
    # Parts behind the near plane keep an empty rectangle.
    seen = valid.any(axis=(1, 2))
    low, high = view.pixel_bounds(low[seen], high[seen])
    rects = np.zeros((len(seen), 4), dtype=np.int32)
    rects[seen, :2] = np.clip(np.floor(low), 0, view.size)
    rects[seen, 2:] = np.clip(np.ceil(high), 0, view.size)
    return rects


class _Canvas:
    """Depth buffer of an image and the index of the nearest part at each pixel, -1 for none.

    Args:
        rays: rays of the camera.
        size: (width, height) of the image, pixels.
        boxes: P boxes relative to the camera.
        rects: (P, 4) pixel bounds of the boxes.
    """

    def __init__(
        self, rays: Rays, size: tuple[int, int], boxes: BoxesInSensor, rects: np.ndarray
    ) -> None:
        self._x, self._y = rays
        self._boxes, self._rects = boxes, rects
        self.depth = np.full((size[1], size[0]), np.inf, dtype=np.float32)
        self.part = np.full((size[1], size[0]), -1, dtype=np.int32)

    def rays_at(self, pixels: np.ndarray) -> Rays:
        """Returns (n,) x and (n,) y of the rays of pixels, which are given by (n,) flat indices."""
        place = np.unravel_index(pixels, self.depth.shape)
        x, y = (np.broadcast_to(values, self.depth.shape)[place] for values in (self._x, self._y))
        return x, y

    def _hit(self, part: int, rect: np.ndarray) -> np.ndarray:
        """Returns the depth at which the rays of a rectangle enter a part, inf for a miss."""
        m = self._boxes.sensor2box[part][:, :, None, None]
        # The z component of a ray direction is 1, so the ray parameter is the depth. The x of a
        # pinhole camera depends on the column only and y on the row: few products.
        across = m[:, 0] * _crop(self._x, rect)
        down = m[:, 1] * _crop(self._y, rect) + m[:, 2]
        direction = down + across
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


def _crop(values: np.ndarray, rect: np.ndarray) -> np.ndarray:
    """Returns the part within a rectangle of values that broadcast to (H, W)."""
    left, top, right, bottom = rect
    rows = slice(top, bottom) if values.shape[0] > 1 else slice(None)
    columns = slice(left, right) if values.shape[1] > 1 else slice(None)
    return values[rows, columns]


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
        rays = canvas.rays_at(solid)
        image[solid] = shade_boxes(rays, depth[solid], nearest[solid], boxes, parts, light)
    image[ground], depth[ground] = shade_ground(
        canvas.rays_at(ground), view.cam2street, street, light, shadow[ground]
    )
    haze = (1.0 - np.exp(depth * np.float32(-1 / _HAZE_DISTANCE)))[:, None]
    # The sky has its colours already; haze would replace all of it by the horizon's colour.
    haze[np.isinf(depth)] = 0.0
    image += haze * (light.horizon.astype(np.float32) - image)
    return image.reshape(height, width, 3)
