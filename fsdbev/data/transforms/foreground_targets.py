"""Training targets in the network image: depth and foreground maps, 2D boxes, heatmaps.

Shapes: N cameras, V views (N cameras of all frames), P points, M boxes, K visible boxes, C classes,
H x W network image.

The targets are defined in docs/model.md, "Training data".
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

#: Stride of the heatmaps: one cell per 4 x 4 pixels.
HEATMAP_STRIDE = 4
#: Depth of the near plane that clips the edges of 3D boxes, metres.
_NEAR = 0.01


def depth_maps(
    points: Sequence[PixelPoints], image_aug: NDArray[np.float64], image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Draws points into depth and foreground maps of the network images.

    If several points share a pixel, the last one wins in both maps.

    Args:
        points: points of each of the V views, in the original image.
        image_aug: (V, 4, 4), original image (u, v, depth) -> network image.
        image_size: (H, W) of the network image.

    Returns:
        (V, H, W) float32 depth in metres times the depth scale of ``image_aug``, 0 without a point;
        (V, H, W) bool foreground.

    Raises:
        ValueError: ``image_aug`` does not have one matrix per view.
    """
    if image_aug.shape != (len(points), 4, 4):
        raise ValueError(
            f"image_aug must be ({len(points)}, 4, 4), one matrix per view, got {image_aug.shape}"
        )
    height, width = image_size
    depth = np.zeros((len(points), height * width), np.float32)
    foreground = np.zeros((len(points), height * width), np.bool_)
    # float32 like the points. Points within rounding of a pixel border may move to the neighbouring
    # pixel, compared to float64.
    for view, (of_view, matrix) in enumerate(zip(points, image_aug.astype(np.float32))):
        column, row = (m[0] * of_view.u + m[1] * of_view.v + m[3] for m in matrix[:2])
        # Truncation toward zero maps coordinates in (-1, 1) to pixel 0.
        inside = (column > -1) & (column < width) & (row > -1) & (row < height)
        kept = np.flatnonzero(inside)
        pixel = row[kept].astype(np.int32) * np.int32(width) + column[kept].astype(np.int32)
        # NumPy's assignment keeps the last of several values for one index.
        depth[view, pixel] = of_view.depth[kept] * matrix[2, 2]
        foreground[view, pixel] = of_view.class_ids[kept] != BACKGROUND
    shape = (len(points), height, width)
    return torch.from_numpy(depth).view(shape), torch.from_numpy(foreground).view(shape)


def image_boxes(
    corners: NDArray, intrinsics: NDArray, image_size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Computes the 2D boxes of 3D boxes in the original image.

    The part of a 3D box beyond the near plane is projected. The 2D box is the bounding box of the
    intersection of its convex hull with the image. A 3D box has no 2D box if its centre is not in
    front of the camera or the intersection is empty.

    Args:
        corners: (M, 8, 3) corners, camera frame, metres; ordered as by ``box_corners``.
        intrinsics: (3, 3) of the original image.
        image_size: (width, height) of the original image.

    Returns:
        (K, 4) float32 x1, y1, x2, y2 in pixels; (K,) int64 indices of their 3D boxes.
    """
    in_front = np.flatnonzero(corners[..., 2].mean(axis=1) > 0)
    points, owner = _visible_points(corners[in_front])
    if not len(points):
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    uv = (points @ intrinsics.T)[:, :2] / points[:, 2:]
    hulls = shapely.convex_hull(shapely.multipoints(uv, indices=owner))
    clipped = shapely.intersection(hulls, shapely.box(0, 0, *image_size))
    visible = np.flatnonzero(shapely.area(clipped) > 0)
    return shapely.bounds(clipped[visible]).astype(np.float32), in_front[visible]


def annotated_boxes(
    frame: Frame, annotations: Annotations
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.int8]]]:
    """Computes the 2D boxes of a sample's objects in each camera.

    Returns:
        For each of the N cameras (K, 4) float32 x1, y1, x2, y2, pixels of the original image; for
        each camera the (K,) int8 class ids.
    """
    boxes, class_ids = [], []
    for camera, corners in enumerate(frame.corners_in_cameras(annotations)):
        size = tuple(frame.image_sizes[camera])
        boxes_2d, owners = image_boxes(corners, frame.intrinsics[camera], size)
        boxes.append(boxes_2d)
        class_ids.append(annotations.class_ids[owners])
    return boxes, class_ids


def objects_in_view(frame: Frame, annotations: Annotations) -> NDArray[np.bool_]:
    """Returns the (M,) mask of the objects that have a 2D box in at least one camera."""
    in_view = np.zeros(len(annotations), np.bool_)
    for camera, corners in enumerate(frame.corners_in_cameras(annotations)):
        size = tuple(frame.image_sizes[camera])
        in_view[image_boxes(corners, frame.intrinsics[camera], size)[1]] = True
    return in_view


def _visible_points(corners: NDArray) -> tuple[NDArray, NDArray[np.int64]]:
    """Returns the corners beyond the near plane and the intersections of edges with it.

    Returns:
        (P, 3) points, camera frame; (P,) box of each, ascending.
    """
    beyond = corners[..., 2] > _NEAR
    owners, corner = np.nonzero(beyond)
    cut_owners, edge = np.nonzero(beyond[:, BOX_EDGES[:, 0]] != beyond[:, BOX_EDGES[:, 1]])
    start = corners[cut_owners, BOX_EDGES[edge, 0]]
    end = corners[cut_owners, BOX_EDGES[edge, 1]]
    along = (_NEAR - start[:, 2:]) / (end[:, 2:] - start[:, 2:])
    cuts = start + along * (end - start)
    owner = np.concatenate([owners, cut_owners])
    # shapely.multipoints needs the points of each box in one run.
    order = np.argsort(owner, kind="stable")
    return np.concatenate([corners[owners, corner], cuts])[order], owner[order]


def heatmaps(
    boxes: Sequence[NDArray],
    class_ids: Sequence[NDArray],
    image_aug: NDArray[np.float64],
    source_sizes: NDArray,
    *,
    num_classes: int,
    image_size: tuple[int, int],
) -> Tensor:
    """Draws the 2D boxes of N cameras as elliptical Gaussian heatmaps.

    See :func:`fsdbev.layers.elliptical_heatmaps`.

    Args:
        boxes: for each camera (K, 4) x1, y1, x2, y2, pixels of the original image.
        class_ids: for each camera (K,) class ids.
        image_aug: (N, 4, 4), original image (u, v, depth) -> network image.
        source_sizes: (N, 2) width, height of the original images.
        num_classes: C.
        image_size: (H, W) of the network image.

    Returns:
        (N, C, H/4, W/4) float32.
    """
    camera = np.repeat(np.arange(len(boxes)), [len(boxes_2d) for boxes_2d in boxes])
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
