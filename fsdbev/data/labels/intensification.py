"""Point cloud intensification (FSD-BEV, section 3.3; SPEC section 10): more labels for objects that
the sweep of a sample meets too seldom.

Frame combination adds the points that the sweeps of the neighbouring samples have on static
objects. Pseudo point assignment gives one point to an object that is visible, but has none even so.

Shapes: P points, M annotations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsdbev.data.index.records import Annotations, Frame
from fsdbev.data.transforms.foreground_targets import image_boxes
from fsdbev.structures import DepthBins

from .point_labels import BACKGROUND, PixelPoints
from .sweeps import MIN_DEPTH, WorldPoints, points_in_boxes

#: What an object at rest may have for an attribute; "" stands for none.
STATIC_ATTRIBUTES = (
    "",
    "vehicle.parked",
    "vehicle.stopped",
    "cycle.without_rider",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
)
#: Objects with as many points of their own need no more.
ENOUGH_LIDAR_POINTS = 1000
#: Levels of visibility, 60 % and more, at which an object's middle may be taken for its own.
PSEUDO_VISIBILITY = (3, 4)


def takes_combined_points(annotations: Annotations) -> NDArray[np.bool_]:
    """(M,) objects at rest with few LiDAR points."""
    static = np.array([name in STATIC_ATTRIBUTES for name in annotations.attributes], np.bool_)
    return static & (annotations.num_lidar_points < ENOUGH_LIDAR_POINTS)


def combine_frames(
    frame: Frame, annotations: Annotations, neighbours: Sequence[WorldPoints]
) -> WorldPoints:
    """Foreground points of the neighbours that lie in this sample's boxes of static objects.

    A point in several boxes is the one's whose centre is nearest; if that moves, it is left out.

    Args:
        frame, annotations: the sample.
        neighbours: classified sweeps of the samples before and after it, as far as there are any.
    """
    foreground = [points.class_ids != BACKGROUND for points in neighbours]
    chosen = list(zip(neighbours, foreground, strict=True))
    positions = np.concatenate([np.zeros((0, 3)), *(p.positions[mask] for p, mask in chosen)])
    class_ids = np.concatenate([np.zeros(0, np.int8), *(p.class_ids[mask] for p, mask in chosen)])
    hits = points_in_boxes(positions, frame.key_ego2global, annotations)
    # Point without a box: the last entry, which is no static object.
    static = np.append(takes_combined_points(annotations), False)
    keep = static[hits.nearest_box(len(positions))]
    return WorldPoints(positions[keep], class_ids[keep], hits.of_points(keep))


def pseudo_points(
    corners: NDArray[np.float64],
    annotations: Annotations,
    intrinsics: NDArray[np.float64],
    image_size: NDArray[np.int32],
    bare: NDArray[np.bool_],
) -> tuple[PixelPoints, NDArray[np.int64]]:
    """Points in one camera for the objects that are bare of any and visible in it.

    A point is at the centre of the object's 2D box, as deep as its nearest corner, of its class.
    There is none where the nearest corner is not within the depths that labels are for: beyond
    ``MIN_DEPTH``, as for other points, up to the end of the depth bins.

    Args:
        corners: (M, 8, 3) of the boxes, camera frame, metres.
        annotations: the M objects.
        intrinsics: (3, 3).
        image_size: (2,) width, height.
        bare: (M,) objects in which no camera sees a point.

    Returns:
        the points, and which object each is of.
    """
    depth = corners[..., 2].min(axis=1, initial=np.inf)
    visible = np.isin(annotations.visibility, PSEUDO_VISIBILITY)
    in_range = (depth > MIN_DEPTH) & (depth <= DepthBins.stop)
    objects = np.flatnonzero(bare & visible & in_range)
    boxes, which = image_boxes(corners[objects], intrinsics, tuple(image_size))
    objects = objects[which]
    points = PixelPoints(
        u=(boxes[:, 0] + boxes[:, 2]) / 2,
        v=(boxes[:, 1] + boxes[:, 3]) / 2,
        depth=depth[objects].astype(np.float32),
        class_ids=annotations.class_ids[objects],
    )
    return points, objects
