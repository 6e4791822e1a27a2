"""Training targets in the network image: depth and foreground maps, 2D boxes, heatmaps.

Shapes: N cameras, V views (cameras of any frame), P points, M boxes, C classes, H x W network
image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsdbev.data.index.records import Annotations, Frame
from fsdbev.data.labels.point_labels import BACKGROUND, PixelPoints
from fsdbev.layers.heatmaps import elliptical_heatmaps
from fsdbev.structures import BOX_EDGES

#: Heatmaps have one cell for 4 x 4 pixels.
HEATMAP_STRIDE = 4
#: Edges of a 3D box are cut this far in front of the camera, metres.
_NEAR = 0.01


def depth_maps(
    points: Sequence[PixelPoints], image_aug: NDArray[np.float64], image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Points as maps of V network images: (V, H, W) float32 depth in (scaled) metres, 0 where there
    is none, and (V, H, W) bool foreground. Where points share a pixel, the last one wins.

    Args:
        points: of each of V views, in the original image.
        image_aug: (V, 4, 4) original -> network image.
        image_size: (H, W) of the network image.

    Raises:
        ValueError: there is not a matrix a view.
    """
    if image_aug.shape != (len(points), 4, 4):
        raise ValueError(
            f"image_aug must be ({len(points)}, 4, 4), one a view, got {image_aug.shape}"
        )
    height, width = image_size
    depth = np.zeros((len(points), height * width), np.float32)
    foreground = np.zeros((len(points), height * width), np.bool_)
    for view, (seen, matrix) in enumerate(zip(points, image_aug.astype(np.float32))):
        column, row = (m[0] * seen.u + m[1] * seen.v + m[3] for m in matrix[:2])
        # Truncated toward zero: what lies less than a pixel before the first is in it.
        inside = (column > -1) & (column < width) & (row > -1) & (row < height)
        which = np.flatnonzero(inside)
        pixel = row[which].astype(np.int32) * np.int32(width) + column[which].astype(np.int32)
        # NumPy's assignment keeps the last of several values for one index.
        depth[view, pixel] = seen.depth[which] * matrix[2, 2]
        foreground[view, pixel] = seen.class_ids[which] != BACKGROUND
    shape = (len(points), height, width)
    return torch.from_numpy(depth).view(shape), torch.from_numpy(foreground).view(shape)


def image_boxes(
    corners: NDArray, intrinsics: NDArray, image_size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """2D boxes of 3D boxes in the original image.

    The part of a box in front of the camera is projected; its convex hull is intersected with the
    image, the bounds of that are the 2D box. Boxes whose centre is not in front have none.

    Args:
        corners: (M, 8, 3), camera frame, metres; ordered as by ``box_corners``.
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


def annotated_boxes(
    frame: Frame, annotations: Annotations
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.int8]]]:
    """2D boxes of the objects, (K, 4), and their (K,) class ids, of each camera."""
    boxes, class_ids = [], []
    for camera, corners in enumerate(frame.corners_in_cameras(annotations)):
        size = tuple(frame.image_sizes[camera])
        seen, owners = image_boxes(corners, frame.intrinsics[camera], size)
        boxes.append(seen)
        class_ids.append(annotations.class_ids[owners])
    return boxes, class_ids


def _visible_points(corners: NDArray) -> tuple[NDArray, NDArray[np.int64]]:
    """Corners beyond the near plane and edges' cuts with it: (P, 3) points, (P,) box of each."""
    beyond = corners[..., 2] > _NEAR
    owners, which = np.nonzero(beyond)
    cut_owners, edge = np.nonzero(beyond[:, BOX_EDGES[:, 0]] != beyond[:, BOX_EDGES[:, 1]])
    start = corners[cut_owners, BOX_EDGES[edge, 0]]
    end = corners[cut_owners, BOX_EDGES[edge, 1]]
    along = (_NEAR - start[:, 2:]) / (end[:, 2:] - start[:, 2:])
    cuts = start + along * (end - start)
    owner = np.concatenate([owners, cut_owners])
    order = np.argsort(owner, kind="stable")  # shapely takes the points of a hull in a row
    return np.concatenate([corners[owners, which], cuts])[order], owner[order]


def heatmaps(
    boxes: Sequence[NDArray],
    class_ids: Sequence[NDArray],
    image_aug: NDArray[np.float64],
    source_sizes: NDArray,
    *,
    num_classes: int,
    image_size: tuple[int, int],
) -> Tensor:
    """(N, C, H/4, W/4) float32 elliptical heatmaps of the 2D boxes of N cameras; see
    :func:`fsdbev.layers.elliptical_heatmaps`.

    Args:
        boxes: of each camera (M, 4) x1, y1, x2, y2, pixels of the original image.
        class_ids: of each camera (M,).
        image_aug: (N, 4, 4) original -> network image.
        source_sizes: (N, 2) width, height of the original images.
        num_classes: C.
        image_size: (H, W) of the network image.
    """
    camera = np.repeat(np.arange(len(boxes)), [len(of_camera) for of_camera in boxes])
    return elliptical_heatmaps(
        torch.from_numpy(np.concatenate(boxes)),
        torch.from_numpy(camera),
        torch.from_numpy(np.concatenate(class_ids).astype(np.int64)),
        torch.from_numpy(image_aug),
        torch.from_numpy(source_sizes.astype(np.int64)),
        num_classes=num_classes,
        image_size=image_size,
        stride=HEATMAP_STRIDE,
    )
