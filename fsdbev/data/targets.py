"""Training targets in the network image: depth and foreground maps, 2D boxes, heatmaps.

Letters: P points, M boxes, C classes, H x W network image.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from .point_labels import BACKGROUND, PixelPoints

#: Heatmaps have one cell for 4 x 4 pixels.
HEATMAP_STRIDE = 4
#: Edges of a 3D box are cut this far in front of the camera, metres.
_NEAR = 0.01
#: The twelve edges of a box: corners whose index differs in one bit.
_EDGES = np.array([(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit])


def depth_maps(
    points: PixelPoints, image_aug: NDArray[np.float64], image_size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Points as maps of the network image: (H, W) depth in (scaled) metres, 0 where there is none,
    and (H, W) foreground. Where points share a pixel, the last one wins.

    Args:
        points: in the original image.
        image_aug: (4, 4) original -> network image.
        image_size: (H, W) of the network image.
    """
    height, width = image_size
    uv = np.stack([points.u, points.v], axis=1) @ image_aug[:2, :2].T + image_aug[:2, 3]
    column, row = np.trunc(uv).astype(np.int64).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = row[inside] * width + column[inside]
    depth = np.zeros(height * width, np.float32)
    foreground = np.zeros(height * width, np.bool_)
    # NumPy's assignment keeps the last of several values for one index.
    depth[pixel] = points.depth[inside] * np.float32(image_aug[2, 2])
    foreground[pixel] = points.class_ids[inside] != BACKGROUND
    return depth.reshape(image_size), foreground.reshape(image_size)


def image_boxes(
    corners: NDArray, intrinsics: NDArray, image_size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """2D boxes of 3D boxes in the original image.

    The part of a box in front of the camera is projected; its convex hull is intersected with the
    image, the bounds of that are the 2D box. Boxes whose centre is not in front have none.

    Args:
        corners: (M, 8, 3), camera frame, metres; bits of the index as in ``Annotations.corners``.
        intrinsics: (3, 3).
        image_size: (width, height) of the original image.

    Returns:
        (K, 4) x1, y1, x2, y2 in pixels, and (K,) which of the M boxes they are of.
    """
    in_front = np.flatnonzero(corners[..., 2].mean(axis=1) > 0)
    points, owner = _visible_points(corners[in_front])
    if not len(points):
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    uv = (points @ intrinsics.T)[:, :2] / points[:, 2:]
    hulls = shapely.convex_hull(shapely.multipoints(uv, indices=owner))
    seen = shapely.intersection(hulls, shapely.box(0, 0, *image_size))
    visible = np.flatnonzero(shapely.area(seen) > 0)
    return shapely.bounds(seen[visible]).astype(np.float32), in_front[visible]


def _visible_points(corners: NDArray) -> tuple[NDArray, NDArray[np.int64]]:
    """Corners beyond the near plane and edges' cuts with it: (P, 3) points, (P,) box of each."""
    beyond = corners[..., 2] > _NEAR
    owners, which = np.nonzero(beyond)
    cut_owners, edge = np.nonzero(beyond[:, _EDGES[:, 0]] != beyond[:, _EDGES[:, 1]])
    start = corners[cut_owners, _EDGES[edge, 0]]
    end = corners[cut_owners, _EDGES[edge, 1]]
    along = (_NEAR - start[:, 2:]) / (end[:, 2:] - start[:, 2:])
    cuts = start + along * (end - start)
    owner = np.concatenate([owners, cut_owners])
    order = np.argsort(owner, kind="stable")  # shapely takes the points of a hull in a row
    return np.concatenate([corners[owners, which], cuts])[order], owner[order]


def heatmaps(
    boxes: NDArray[np.float32],
    class_ids: NDArray,
    image_aug: NDArray[np.float64],
    *,
    num_classes: int,
    image_size: tuple[int, int],
    source_size: tuple[int, int],
) -> NDArray[np.float32]:
    """(C, H/4, W/4) elliptical Gaussian heatmaps of 2D boxes.

    Each box is a Gaussian on the pixels of the original image, of peak 1 at int(centre), with radii
    (int(width / 2), int(height / 2)) and sigma (2 radius + 1) / 4 along each axis, cut at the radii
    (where it is still above e^-4). Seen through ``image_aug`` with bilinear interpolation, then
    again at a cell's centre, which is the mean of its four middle pixels. Only those pixels, and
    only near the box, are ever evaluated; nothing is drawn at full resolution.

    Args:
        boxes: (M, 4) x1, y1, x2, y2, pixels of the original image.
        class_ids: (M,).
        image_aug: (4, 4) original -> network image.
        num_classes: C.
        image_size: (H, W) of the network image.
        source_size: (width, height) of the original image.
    """
    rows, columns = image_size[0] // HEATMAP_STRIDE, image_size[1] // HEATMAP_STRIDE
    result = np.zeros((num_classes, rows, columns), np.float32)
    network2source = np.linalg.inv(image_aug[[0, 1, 3]][:, [0, 1, 3]])
    for class_id in np.unique(class_ids):
        middles = np.zeros((2 * rows, 2 * columns), np.float32)
        for box in boxes[class_ids == class_id]:
            _draw(middles, box, image_aug, network2source, source_size)
        upper, lower = middles[0::2], middles[1::2]
        result[class_id] = (upper[:, 0::2] + upper[:, 1::2] + lower[:, 0::2] + lower[:, 1::2]) / 4
    return result


def _draw(
    middles: NDArray[np.float32],
    box: NDArray[np.float32],
    image_aug: NDArray[np.float64],
    network2source: NDArray[np.float64],
    source_size: tuple[int, int],
) -> None:
    """Max-combines one box's Gaussian into ``middles``: of each cell's pixels the middle 2 x 2."""
    x1, y1, x2, y2 = (float(value) for value in box)
    centre = (int((x1 + x2) / 2), int((y1 + y2) / 2))
    radius = (int((x2 - x1) / 2), int((y2 - y1) / 2))
    window, columns, rows = _window(centre, radius, image_aug, middles.shape)
    u, v = (
        to_source[0] * columns[None, :] + to_source[1] * rows[:, None] + to_source[2]
        for to_source in network2source[:2]
    )
    value = _profile(u, centre[0], radius[0], source_size[0])
    value *= _profile(v, centre[1], radius[1], source_size[1])
    np.maximum(middles[window], value, out=middles[window])


def _window(
    centre: tuple[int, int],
    radius: tuple[int, int],
    image_aug: NDArray[np.float64],
    shape: tuple[int, int],
) -> tuple[tuple[slice, slice], NDArray[np.int64], NDArray[np.int64]]:
    """Part of the (2 H/4, 2 W/4) middle pixels a box can reach, and their columns and rows in the
    network image (4 j + 1, 4 j + 2, ...)."""
    middle = image_aug[:2, :2] @ centre + image_aug[:2, 3]
    reach = np.abs(image_aug[:2, :2]) @ (np.array(radius) + 1.0)
    first = np.floor((middle - reach) / HEATMAP_STRIDE).astype(int)
    last = np.ceil((middle + reach) / HEATMAP_STRIDE).astype(int)
    spans = [
        np.arange(2 * min(max(first[axis], 0), size // 2), 2 * min(max(last[axis], 0), size // 2))
        for axis, size in enumerate(shape[::-1])
    ]
    columns, rows = (span // 2 * HEATMAP_STRIDE + 1 + span % 2 for span in spans)
    window = tuple(slice(s[0], s[-1] + 1) if len(s) else slice(0, 0) for s in spans[::-1])
    return window, columns, rows


def _profile(
    position: NDArray[np.float64], centre: int, radius: int, size: int
) -> NDArray[np.float32]:
    """Linear interpolation of a Gaussian of sigma (2 radius + 1) / 4 that stands on whole pixels,
    0 beyond its radius and outside of 0 .. size - 1."""
    pixels = np.arange(-radius - 1, radius + 3)
    table = np.exp(-8.0 * (pixels / (2 * radius + 1)) ** 2, dtype=np.float32)
    table[(np.abs(pixels) > radius) | (pixels + centre < 0) | (pixels + centre >= size)] = 0
    place = np.clip(position - (centre - radius - 1), 0, 2 * radius + 2).astype(np.float32)
    left = place.astype(np.int64)
    low = table[left]
    return low + (place - left) * (table[left + 1] - low)
