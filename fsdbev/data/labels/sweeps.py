"""LiDAR sweeps: reading, classification, points in boxes, and projection into the cameras.

Shapes: P points, M annotations, N cameras, K pairs of a point and a box that contains it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fsdbev.data.index.records import Annotations, Frame, Lidar
from fsdbev.structures import transform_points
from fsdbev.utils.plain_file import read_bytes, size_of

from .point_labels import BACKGROUND, PixelPoints

#: Limits of a projected point: depth in metres and distance to the image border in pixels, as in
#: ``map_pointcloud_to_image`` of the nuScenes devkit.
MIN_DEPTH = 1.0
IMAGE_MARGIN = 1.0
#: Values of a point in a .pcd.bin file: x, y, z, intensity, ring.
_POINT_VALUES = 5
#: Limit of a file's size; a sweep of this size has 50 million points.
_MAX_BYTES = 1 << 30
_MISSING = "no such file; unpack the archive it is in, or correct the data root"


@dataclass(frozen=True)
class BoxHits:
    """Pairs of a point and a box that contains it; a point in several boxes has several pairs.

    Attributes:
        point, box: (K,) int64 indices.
        distance: (K,) distance from the point to the centre of the box, metres.
    """

    point: NDArray[np.int64]
    box: NDArray[np.int64]
    distance: NDArray[np.float64]

    def nearest_box(self, num_points: int) -> NDArray[np.int64]:
        """Returns (P,) the box that contains each point, or the nearest of several; -1 for none."""
        owner = np.full(num_points, -1)
        # NumPy's assignment keeps the last of several values for one index. The order ends with the
        # nearest box, and with the first box among equally near ones.
        order = np.lexsort((-self.box, -self.distance))
        owner[self.point[order]] = self.box[order]
        return owner

    def boxes_with(self, points: NDArray[np.int64], num_boxes: int) -> NDArray[np.bool_]:
        """Returns the (M,) mask of boxes that contain any of the points, given by index."""
        found = np.zeros(num_boxes, np.bool_)
        found[self.box[np.isin(self.point, points)]] = True
        return found

    def of_points(self, mask: NDArray[np.bool_]) -> BoxHits:
        """Returns the pairs of the points of a (P,) mask; indices count the selected points."""
        keep = mask[self.point]
        new_index = np.cumsum(mask) - 1
        return BoxHits(new_index[self.point[keep]], self.box[keep], self.distance[keep])


@dataclass(frozen=True)
class WorldPoints:
    """LiDAR points in the global frame, and the boxes of one sample that contain them.

    Attributes:
        positions: (P, 3) float64, global frame, metres.
        class_ids: (P,) int8 class id, -1 for background.
        hits: pairs of these points and the sample's boxes.
    """

    positions: NDArray[np.float64]
    class_ids: NDArray[np.int8]
    hits: BoxHits

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class VisiblePoints:
    """Points in the image of one camera.

    Attributes:
        index: (P,) int64 indices of the points in :class:`WorldPoints`.
        pixels: their pixel coordinates, depths and classes.
    """

    index: NDArray[np.int64]
    pixels: PixelPoints


def sweep_points(
    frame: Frame,
    annotations: Annotations,
    dataroot: str | os.PathLike,
    lidarseg_classes: Sequence[int] = (),
) -> WorldPoints:
    """Reads and classifies the points of a sample's sweep.

    Classes are those of nuScenes-lidarseg, or those of the boxes if the sweep has no lidarseg
    labels.

    Args:
        frame, annotations: the sample.
        dataroot: folder that the sample's paths are relative to.
        lidarseg_classes: class id of each lidarseg category index.

    Returns:
        The points; none if the sample has no sweep.

    Raises:
        FileNotFoundError, ValueError: a point or label file is missing or malformed.
    """
    points, labels = np.zeros((0, 3), np.float32), None
    lidar2global = np.eye(4)
    if frame.lidar is not None:
        points = read_lidar(Path(dataroot) / frame.lidar.path)
        lidar2global = frame.lidar.ego2global @ frame.lidar.lidar2ego
        if frame.lidar.lidarseg_path is not None:
            labels = read_lidarseg(Path(dataroot) / frame.lidar.lidarseg_path, len(points))
    # float64, because global coordinates are large compared to the accuracy of a point.
    positions = transform_points(points.astype(np.float64), lidar2global)
    hits = points_in_boxes(positions, frame.key_ego2global, annotations)
    if labels is None:
        class_ids = _classes_of_boxes(hits.nearest_box(len(positions)), annotations)
    else:
        class_ids = _classes_of_lidarseg(labels, lidarseg_classes, frame.sample_token)
    return WorldPoints(positions, class_ids, hits)


def read_lidar(path: str | os.PathLike) -> NDArray[np.float32]:
    """Reads a nuScenes .pcd.bin file.

    Returns:
        (P, 3) float32 points, LiDAR frame, metres.

    Raises:
        FileNotFoundError, ValueError: the file is missing, empty or truncated, or has points that
            are not finite.
    """
    content = _bytes_of(path)
    num_points = _num_points(path, len(content))
    points = content.view(np.float32).reshape(num_points, _POINT_VALUES)[:, :3]
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{path}: {(~finite).sum()} of {num_points} points are not finite; the file is "
            "damaged, fetch it again, or remove these points together with their lidarseg labels"
        )
    return points


def _num_points(path: str | os.PathLike, size: int) -> int:
    point_bytes = _POINT_VALUES * np.dtype(np.float32).itemsize
    if not size or size % point_bytes:
        raise ValueError(
            f"{path}: {size} bytes are not a whole number of points of {_POINT_VALUES} float32; "
            "the file is cut short, fetch it again"
        )
    return size // point_bytes


def read_lidarseg(path: str | os.PathLike, num_points: int) -> NDArray[np.uint8]:
    """Reads the nuScenes-lidarseg labels of a sweep.

    Args:
        path: path of the file.
        num_points: P, number of points of the sweep.

    Returns:
        (P,) uint8 category indices.

    Raises:
        FileNotFoundError, ValueError: the file is missing, or has another number of labels.
    """
    labels = _bytes_of(path)
    _check_num_labels(path, len(labels), num_points)
    return labels


def _check_num_labels(path: str | os.PathLike, num_labels: int, num_points: int) -> None:
    if num_labels != num_points:
        raise ValueError(
            f"{path}: {num_labels} labels for a sweep of {num_points} points; labels and sweep "
            "are of different versions, or one is cut short: fetch both again"
        )


def check_sweep_sizes(lidar: Lidar, dataroot: str | os.PathLike) -> None:
    """Checks the sizes of a sweep's files without reading their content.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_lidar` and :func:`read_lidarseg`.
    """
    path = Path(dataroot) / lidar.path
    num_points = _num_points(path, size_of(path, _MISSING))
    if lidar.lidarseg_path is not None:
        path = Path(dataroot) / lidar.lidarseg_path
        _check_num_labels(path, size_of(path, _MISSING), num_points)


def _bytes_of(path: str | os.PathLike) -> NDArray[np.uint8]:
    return np.frombuffer(read_bytes(path, _MAX_BYTES, _MISSING), np.uint8)


def _classes_of_lidarseg(
    labels: NDArray[np.uint8], lidarseg_classes: Sequence[int], sample_token: str
) -> NDArray[np.int8]:
    if len(labels) and labels.max() >= len(lidarseg_classes):
        raise ValueError(
            f"sample {sample_token}: lidarseg index {labels.max()} is not in the category "
            f"table ({len(lidarseg_classes)} entries); use the table that came with lidarseg"
        )
    return np.asarray(lidarseg_classes, np.int8)[labels]


def _classes_of_boxes(owner: NDArray[np.int64], annotations: Annotations) -> NDArray[np.int8]:
    """Returns the (P,) classes of the boxes that contain the points, -1 for none."""
    # An owner of -1 selects the appended background class.
    return np.append(annotations.class_ids, np.int8(BACKGROUND))[owner]


def points_in_boxes(
    positions: NDArray[np.float64], key_ego2global: NDArray[np.float64], annotations: Annotations
) -> BoxHits:
    """Finds the points inside or on the boxes of a sample.

    Args:
        positions: (P, 3) points, global frame, metres.
        key_ego2global: (4, 4) pose of the annotations' frame.
        annotations: the M boxes.
    """
    key_points = transform_points(positions, np.linalg.inv(key_ego2global))
    half = annotations.size.astype(np.float64) / 2
    # Half sizes of the axis-aligned bounds, slightly enlarged: rounding must not exclude a point
    # before the exact test below.
    reach = 1.001 * (np.abs(annotations.rotation) @ half[..., None])[..., 0]
    # Testing all P x M pairs would be slow. After sorting by whole metres of x, the candidates of a
    # box are a contiguous run. NumPy sorts 16-bit integers by radix sort, in linear time.
    metre = _floor_to_int16(key_points[:, 0])
    order = np.argsort(metre, kind="stable")
    lower = _floor_to_int16((annotations.center - reach)[:, 0])
    upper = _floor_to_int16((annotations.center + reach)[:, 0])
    begin = np.searchsorted(metre[order], lower, "left")
    end = np.searchsorted(metre[order], upper, "right")
    pairs = []
    for box, center in enumerate(annotations.center):
        run = order[begin[box] : end[box]]
        near = run[np.abs(key_points[run, 1] - center[1]) <= reach[box, 1]]
        offset = key_points[near] - center
        inside = (np.abs(offset @ annotations.rotation[box]) <= half[box]).all(axis=1)
        distance = np.linalg.norm(offset[inside], axis=1)
        pairs.append((near[inside], np.full(len(distance), box), distance))
    if not pairs:
        return BoxHits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return BoxHits(*map(np.concatenate, zip(*pairs, strict=True)))


def _floor_to_int16(x: NDArray) -> NDArray[np.int16]:
    """Rounds down to int16 and clamps to its range."""
    return np.clip(np.floor(x), -32768, 32767).astype(np.int16)


def project_points(points: WorldPoints, frame: Frame) -> list[VisiblePoints]:
    """Projects points into all cameras, each at its own time.

    Args:
        points: P points, global frame.
        frame: the sample whose cameras are used.

    Returns:
        For each of the N cameras the points that are deeper than ``MIN_DEPTH`` and farther than
        ``IMAGE_MARGIN`` from the border of the image.
    """
    visible = []
    for global2cam, intrinsics, size in zip(
        frame.global2cam, frame.intrinsics, frame.image_sizes, strict=True
    ):
        # Depth first, so that only points in front of the camera get pixel coordinates.
        depth = points.positions @ global2cam[2, :3] + global2cam[2, 3]
        front = np.flatnonzero(depth > MIN_DEPTH)
        depth = depth[front]
        global2image = intrinsics[:2] @ global2cam[:3]
        uv = (points.positions[front] @ global2image[:, :3].T + global2image[:, 3]) / depth[:, None]
        # float32 only after the comparison, because rounding could move a point over the margin.
        inside = ((uv > IMAGE_MARGIN) & (uv < size - IMAGE_MARGIN)).all(axis=1)
        u, v = uv[inside].astype(np.float32).T
        index = front[inside]
        pixels = PixelPoints(u, v, depth[inside].astype(np.float32), points.class_ids[index])
        visible.append(VisiblePoints(index, pixels))
    return visible
