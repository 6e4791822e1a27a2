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
    (where it is still above e^-4); of several the largest counts. That map is seen through
    ``image_aug`` with bilinear interpolation, and a cell is the mean of its four middle pixels.
    Only what these look at is evaluated, near the boxes; nothing is drawn at full resolution.

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
    if not len(boxes):
        return result
    left, top, weights = _middles(image_aug, rows, columns)
    for class_id in np.unique(class_ids):
        neighbours = np.zeros(weights.shape, np.float32)
        for box in boxes[class_ids == class_id]:
            _draw(neighbours, box, left, top, image_aug, source_size)
        pixels = (neighbours * weights).sum(axis=0)
        upper, lower = pixels[0::2], pixels[1::2]
        result[class_id] = (upper[:, 0::2] + upper[:, 1::2] + lower[:, 0::2] + lower[:, 1::2]) / 4
    return result


def _middles(
    image_aug: NDArray[np.float64], rows: int, columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Where the middle 2 x 2 pixels of every cell look in the original image.

    Returns:
        (2 rows, 2 columns) ``left`` and ``top`` whole pixel of each, and (4, 2 rows, 2 columns)
        weights of the neighbours (left, top), (right, top), (left, bottom), (right, bottom).
    """
    network2source = np.linalg.inv(image_aug[[0, 1, 3]][:, [0, 1, 3]])
    row, column = (
        (HEATMAP_STRIDE * np.arange(count)[:, None] + (1, 2)).ravel() for count in (rows, columns)
    )
    u, v = (a * column[None, :] + b * row[:, None] + c for a, b, c in network2source[:2])
    left, top = np.floor(u), np.floor(v)
    right_part, bottom_part = (u - left).astype(np.float32), (v - top).astype(np.float32)
    weights = np.empty((4, *u.shape), np.float32)
    weights[3] = right_part * bottom_part
    weights[2] = bottom_part - weights[3]
    weights[1] = right_part - weights[3]
    weights[0] = 1 - right_part - weights[2]
    return left.astype(np.int64), top.astype(np.int64), weights


def _draw(
    neighbours: NDArray[np.float32],
    box: NDArray[np.float32],
    left: NDArray[np.int64],
    top: NDArray[np.int64],
    image_aug: NDArray[np.float64],
    source_size: tuple[int, int],
) -> None:
    """Max-combines one box's Gaussian into the neighbours, (4, 2 rows, 2 columns), it can reach."""
    x1, y1, x2, y2 = (float(value) for value in box)
    centre = (int((x1 + x2) / 2), int((y1 + y2) / 2))
    radius = (int((x2 - x1) / 2), int((y2 - y1) / 2))
    window = _window(centre, radius, image_aug, left.shape)
    across = _profile(left[window], centre[0], radius[0], source_size[0])
    down = _profile(top[window], centre[1], radius[1], source_size[1])
    for corner, target in enumerate(neighbours):
        value = across[corner % 2] * down[corner // 2]
        np.maximum(target[window], value, out=target[window])


def _window(
    centre: tuple[int, int],
    radius: tuple[int, int],
    image_aug: NDArray[np.float64],
    shape: tuple[int, int],
) -> tuple[slice, slice]:
    """Rows and columns of the middle pixels that look at anything within the radii."""
    middle = image_aug[:2, :2] @ centre + image_aug[:2, 3]
    reach = np.abs(image_aug[:2, :2]) @ (np.array(radius) + 1.0)
    first = 2 * np.floor((middle - reach) / HEATMAP_STRIDE).astype(int)
    last = 2 * np.ceil((middle + reach) / HEATMAP_STRIDE).astype(int)
    columns, rows = (
        slice(min(max(a, 0), size), min(max(b, 0), size))
        for a, b, size in zip(first, last, shape[::-1], strict=True)
    )
    return rows, columns


def _profile(
    position: NDArray[np.int64], centre: int, radius: int, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gaussian of sigma (2 radius + 1) / 4 about ``centre`` at whole positions, and at the next
    ones; 0 beyond its radius and outside of 0 .. size - 1."""
    offset = np.arange(-radius - 2, radius + 3)
    table = np.exp(-8.0 * (offset / (2 * radius + 1)) ** 2).astype(np.float32)
    table[(np.abs(offset) > radius) | (offset + centre < 0) | (offset + centre >= size)] = 0
    place = np.clip(position - (centre - radius - 2), 0, 2 * radius + 3)
    return table[place], table[place + 1]
