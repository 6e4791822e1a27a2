"""Point cloud intensification (FSD-BEV, arXiv:2407.10135, section 3.3): additional label points for
objects with few LiDAR points.

Shapes: P points, M annotations.

Frame combination adds the points of the neighbouring samples' sweeps on static objects. Pseudo
point assignment adds one point to each visible object that still has none; the public release
lacks it. The rules are in docs/model.md, "Training data".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsdbev.data.index.records import Annotations, Frame
from fsdbev.data.transforms.foreground_targets import image_boxes
from fsdbev.structures import ClassSet

from .point_labels import BACKGROUND, PixelPoints
from .sweeps import MIN_DEPTH, WorldPoints, points_in_boxes

#: Frame combination skips objects with at least this many LiDAR points in their own sample.
ENOUGH_LIDAR_POINTS = 1000
#: nuScenes visibility levels of 60 % and more: the centre of the object's 2D box then shows the
#: object itself rather than an occluder.
PSEUDO_VISIBILITY = (3, 4)


def is_static_and_sparse(annotations: Annotations, classes: ClassSet) -> NDArray[np.bool_]:
    """Returns the (M,) mask of static objects that frame combination adds points to."""
    known = ("", *classes.static_attributes)
    static = np.array([name in known for name in annotations.attributes], np.bool_)
    return static & (annotations.num_lidar_points < ENOUGH_LIDAR_POINTS)


def combine_frames(
    frame: Frame,
    annotations: Annotations,
    neighbours: Sequence[WorldPoints],
    classes: ClassSet,
) -> WorldPoints:
    """Returns the foreground points of neighbouring sweeps inside this sample's static boxes.

    A point in several boxes belongs to the box with the nearest centre, and is dropped if that
    object moves.

    Args:
        frame, annotations: the sample.
        neighbours: classified sweeps of the previous and the next sample, if they exist.
        classes: the classes, whose ``static_attributes`` mark static objects.

    Returns:
        The points in the global frame with their classes, and their hits of this sample's boxes.
    """
    foreground = [points.class_ids != BACKGROUND for points in neighbours]
    chosen = list(zip(neighbours, foreground, strict=True))
    positions = np.concatenate([np.zeros((0, 3)), *(p.positions[mask] for p, mask in chosen)])
    class_ids = np.concatenate([np.zeros(0, np.int8), *(p.class_ids[mask] for p, mask in chosen)])
    hits = points_in_boxes(positions, frame.key_ego2global, annotations)
    # nearest_box returns -1 for a point outside all boxes, which selects the appended False.
    static = np.append(is_static_and_sparse(annotations, classes), False)
    keep = static[hits.nearest_box(len(positions))]
    return WorldPoints(positions[keep], class_ids[keep], hits.of_points(keep))


def pseudo_points(
    corners: NDArray[np.float64],
    annotations: Annotations,
    intrinsics: NDArray[np.float64],
    image_size: NDArray[np.int32],
    unlabelled: NDArray[np.bool_],
) -> tuple[PixelPoints, NDArray[np.int64]]:
    """Returns one foreground point per visible object that has no label point in any camera.

    The point is at the centre of the object's 2D box and has the depth of its nearest corner, if
    this depth is above ``MIN_DEPTH``, as for LiDAR points. Training drops points outside of its
    depth bins.

    Args:
        corners: (M, 8, 3) corners of the boxes, camera frame, metres.
        annotations: the M objects.
        intrinsics: (3, 3) of the original image.
        image_size: (2,) width, height of the original image.
        unlabelled: (M,) objects without a label point in any camera.

    Returns:
        P points, and the (P,) index of each point's object.
    """
    depth = corners[..., 2].min(axis=1, initial=np.inf)
    visible = np.isin(annotations.visibility, PSEUDO_VISIBILITY)
    objects = np.flatnonzero(unlabelled & visible & (depth > MIN_DEPTH))
    boxes, owners = image_boxes(corners[objects], intrinsics, tuple(image_size))
    objects = objects[owners]
    points = PixelPoints(
        u=(boxes[:, 0] + boxes[:, 2]) / 2,
        v=(boxes[:, 1] + boxes[:, 3]) / 2,
        depth=depth[objects].astype(np.float32),
        class_ids=annotations.class_ids[objects],
    )
    return points, objects
