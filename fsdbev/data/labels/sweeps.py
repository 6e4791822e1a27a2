"""A sample's LiDAR sweep in the world: reading, classes, the boxes its points are in, the cameras
that see them.

Shapes: P points, M annotations, N cameras, K pairs of a point and a box it is in.
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

#: Cameras see points that are deeper than this, metres, and this far inside the image, pixels.
MIN_DEPTH = 1.0
IMAGE_MARGIN = 1.0
#: Of a point in a .pcd.bin file: x, y, z, intensity, ring.
_POINT_VALUES = 5
#: A sweep of 50 million points.
_MAX_BYTES = 1 << 30
_MISSING = "no such file; unpack the archive it is in, or correct the data root"


@dataclass(frozen=True)
class BoxHits:
    """Which points are in which boxes: a point in several boxes has a pair with each.

    Attributes:
        point, box: (K,) int64 indices.
        distance: (K,) metres from the point to the box's centre.
    """

    point: NDArray[np.int64]
    box: NDArray[np.int64]
    distance: NDArray[np.float64]

    def nearest_box(self, num_points: int) -> NDArray[np.int64]:
        """(P,) the box each point is in, -1 for none; of several, the one centred nearest."""
        owner = np.full(num_points, -1)
        # NumPy's assignment keeps the last of several values for one index: nearest, first box.
        order = np.lexsort((-self.box, -self.distance))
        owner[self.point[order]] = self.box[order]
        return owner

    def boxes_with(self, points: NDArray[np.int64], num_boxes: int) -> NDArray[np.bool_]:
        """(M,) whether any of the points, given by index, is in the box."""
        found = np.zeros(num_boxes, np.bool_)
        found[self.box[np.isin(self.point, points)]] = True
        return found

    def of_points(self, mask: NDArray[np.bool_]) -> BoxHits:
        """Of the points of the (P,) mask only, counted anew."""
        keep = mask[self.point]
        number = np.cumsum(mask) - 1
        return BoxHits(number[self.point[keep]], self.box[keep], self.distance[keep])


@dataclass(frozen=True)
class WorldPoints:
    """Points of the world, and the boxes of one sample that they are in.

    Attributes:
        positions: (P, 3) float64, global, metres.
        class_ids: (P,) int8, -1 background.
        hits: pairs of these points and the sample's boxes.
    """

    positions: NDArray[np.float64]
    class_ids: NDArray[np.int8]
    hits: BoxHits

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class SeenPoints:
    """Points one camera sees: ``index`` among all points, and where they are in its image."""

    index: NDArray[np.int64]
    pixels: PixelPoints


def sweep_points(
    frame: Frame,
    annotations: Annotations,
    dataroot: str | os.PathLike,
    lidarseg_classes: Sequence[int] = (),
) -> WorldPoints:
    """Points of the sample's sweep, classified; none if it has no sweep.

    Args:
        frame, annotations: the sample.
        dataroot: folder that the sample's paths start from.
        lidarseg_classes: class id of each lidarseg category index.

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
    positions = transform_points(points.astype(np.float64), lidar2global)
    hits = points_in_boxes(positions, frame.key_ego2global, annotations)
    if labels is None:
        class_ids = _classes_of_boxes(hits.nearest_box(len(positions)), annotations)
    else:
        class_ids = _classes_of_lidarseg(labels, lidarseg_classes, frame.sample_token)
    return WorldPoints(positions, class_ids, hits)


def read_lidar(path: str | os.PathLike) -> NDArray[np.float32]:
    """(P, 3) float32 points of a nuScenes .pcd.bin file, LiDAR frame, metres.

    Raises:
        FileNotFoundError, ValueError: no such file, empty, cut short, or not of numbers.
    """
    content = _bytes_of(path)
    num_points = _num_points(path, len(content))
    points = content.view(np.float32).reshape(num_points, _POINT_VALUES)[:, :3]
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{path}: {(~finite).sum()} of {num_points} points are not finite; the file is "
            "damaged, fetch it again, or take such points out together with their lidarseg labels"
        )
    return points


def _num_points(path: str | os.PathLike, size: int) -> int:
    point_bytes = _POINT_VALUES * np.dtype(np.float32).itemsize
    if not size or size % point_bytes:
        raise ValueError(
            f"{path}: {size} bytes are no whole number of points of {_POINT_VALUES} float32; the "
            "file is cut short, fetch it again"
        )
    return size // point_bytes


def read_lidarseg(path: str | os.PathLike, num_points: int) -> NDArray[np.uint8]:
    """(P,) uint8 category index of each point of the sweep.

    Raises:
        FileNotFoundError, ValueError: no such file, or not of this many points.
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
    """What :func:`read_lidar` and :func:`read_lidarseg` say of the files' sizes, without reading
    them."""
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
    """(P,) classes from the box each point is in, -1 for none."""
    return np.append(annotations.class_ids, np.int8(BACKGROUND))[owner]


def points_in_boxes(
    positions: NDArray[np.float64], key_ego2global: NDArray[np.float64], annotations: Annotations
) -> BoxHits:
    """Pairs of global positions (P, 3) and the boxes that they are in or on."""
    key_points = transform_points(positions, np.linalg.inv(key_ego2global))
    half = annotations.size.astype(np.float64) / 2
    reach = 1.001 * (np.abs(annotations.rotation) @ half[..., None])[..., 0]
    # Sorted by whole metres of x (16 bits: a radix sort), a box has a run of points to look at.
    metre = _whole_metres(key_points[:, 0])
    order = np.argsort(metre, kind="stable")
    begin = np.searchsorted(metre[order], _whole_metres((annotations.center - reach)[:, 0]), "left")
    end = np.searchsorted(metre[order], _whole_metres((annotations.center + reach)[:, 0]), "right")
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


def _whole_metres(x: NDArray) -> NDArray[np.int16]:
    """Rounded down; what is beyond 16 bits stays at the ends."""
    return np.clip(np.floor(x), -32768, 32767).astype(np.int16)


def project(points: WorldPoints, frame: Frame) -> list[SeenPoints]:
    """Points each camera sees at its own time: deeper than 1 m, at least 1 px inside the image."""
    seen = []
    for global2cam, intrinsics, size in zip(
        frame.global2cam, frame.intrinsics, frame.image_sizes, strict=True
    ):
        depth = points.positions @ global2cam[2, :3] + global2cam[2, 3]
        front = np.flatnonzero(depth > MIN_DEPTH)
        depth = depth[front]
        global2image = intrinsics[:2] @ global2cam[:3]
        uv = (points.positions[front] @ global2image[:, :3].T + global2image[:, 3]) / depth[:, None]
        inside = ((uv > IMAGE_MARGIN) & (uv < size - IMAGE_MARGIN)).all(axis=1)
        u, v = uv[inside].astype(np.float32).T
        index = front[inside]
        pixels = PixelPoints(u, v, depth[inside].astype(np.float32), points.class_ids[index])
        seen.append(SeenPoints(index, pixels))
    return seen
