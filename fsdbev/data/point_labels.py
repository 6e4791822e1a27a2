"""Point labels: LiDAR points seen by each camera, with depth and class, computed once offline.

A sample's points go through three steps, each a function: classes for the sweep's points
(:func:`classify`), projection to the cameras at their own times (:func:`project`), storage
(:func:`write_point_labels`). Points of a later step come later in the arrays, and where two share a
pixel the later one wins.

Letters: P points, M annotations, N cameras.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsdbev.structures import CLASS_NAMES

from .arrow_file import FileFormat, read_table, write_table
from .records import Annotations, Frame

LABEL_FORMAT = FileFormat(
    kind="point-labels",
    version=1,
    convention="a row a camera; u, v: pixels of the original image times pixel_scale; "
    "depth: metres times 256; class_id -1: background; classes " + " ".join(CLASS_NAMES),
)
BACKGROUND = -1
MIN_DEPTH = 1.0
IMAGE_MARGIN = 1.0
_DEPTH_SCALE = 256
_UINT16_MAX = 65535
_POINT_VALUES = 5
_SCHEMA = pa.schema(
    [
        ("pixel_scale", pa.int32()),
        ("u", pa.list_(pa.uint16())),
        ("v", pa.list_(pa.uint16())),
        ("depth", pa.list_(pa.uint16())),
        ("class_id", pa.list_(pa.int8())),
    ]
)


@dataclass(frozen=True)
class LabelledPoints:
    """Points of the world: (P, 3) float64 global positions, (P,) int8 class ids, -1 background."""

    positions: NDArray[np.float64]
    class_ids: NDArray[np.int8]


@dataclass(frozen=True)
class PixelPoints:
    """Points seen by one camera: (P,) float32 pixels ``u``, ``v`` of the original image, float32
    ``depth`` along the camera's axis in metres, int8 ``class_ids``, -1 background."""

    u: NDArray[np.float32]
    v: NDArray[np.float32]
    depth: NDArray[np.float32]
    class_ids: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.depth)

    @classmethod
    def empty(cls) -> PixelPoints:
        return cls(*(np.zeros(0, kind) for kind in ("f4", "f4", "f4", "i1")))


def label_sample(
    frame: Frame,
    annotations: Annotations,
    dataroot: str | os.PathLike,
    lidarseg_classes: Sequence[int] = (),
) -> list[PixelPoints]:
    """Point labels of one sample, an entry a camera.

    Args:
        frame, annotations: the sample.
        dataroot: folder that the sample's paths start from.
        lidarseg_classes: class id of each lidarseg category index.

    Raises:
        FileNotFoundError, ValueError: a point or label file is missing or malformed.
    """
    if frame.lidar is None:
        return [PixelPoints.empty() for _ in frame.channels]
    points = read_lidar(Path(dataroot) / frame.lidar.path)
    lidar2global = frame.lidar.ego2global @ frame.lidar.lidar2ego
    positions = _transform(points, lidar2global)
    labels = None
    if frame.lidar.lidarseg_path is not None:
        labels = read_lidarseg(Path(dataroot) / frame.lidar.lidarseg_path, len(points))
    class_ids = classify(positions, frame, annotations, labels, lidarseg_classes)
    return project(LabelledPoints(positions, class_ids), frame)


def read_lidar(path: str | os.PathLike) -> NDArray[np.float32]:
    """(P, 3) float32 points of a nuScenes .pcd.bin file, LiDAR frame, metres."""
    content = np.fromfile(path, np.uint8)
    if len(content) % (4 * _POINT_VALUES):
        raise ValueError(
            f"{path}: {len(content)} bytes are no whole number of points of {_POINT_VALUES} "
            "float32; the file is cut short, fetch it again"
        )
    return content.view(np.float32).reshape(-1, _POINT_VALUES)[:, :3]


def read_lidarseg(path: str | os.PathLike, num_points: int) -> NDArray[np.uint8]:
    """(P,) uint8 category index of each point of the sweep."""
    labels = np.fromfile(path, np.uint8)
    if len(labels) != num_points:
        raise ValueError(
            f"{path}: {len(labels)} labels for a sweep of {num_points} points; labels and sweep "
            "are of different versions, fetch both again"
        )
    return labels


def classify(
    positions: NDArray[np.float64],
    frame: Frame,
    annotations: Annotations,
    lidarseg: NDArray[np.uint8] | None,
    lidarseg_classes: Sequence[int],
) -> NDArray[np.int8]:
    """(P,) class ids of global ``positions``: from lidarseg, or without it from the boxes."""
    if lidarseg is None:
        return classes_from_boxes(positions, frame.key_ego2global, annotations)
    if len(lidarseg) and lidarseg.max() >= len(lidarseg_classes):
        raise ValueError(
            f"sample {frame.sample_token}: lidarseg index {lidarseg.max()} is not in the category "
            f"table ({len(lidarseg_classes)} entries); use the table that came with lidarseg"
        )
    return np.asarray(lidarseg_classes, np.int8)[lidarseg]


def classes_from_boxes(
    positions: NDArray[np.float64], key_ego2global: NDArray[np.float64], annotations: Annotations
) -> NDArray[np.int8]:
    """(P,) class of the box each global position is in; of several, the one centred nearest."""
    class_ids = np.full(len(positions), BACKGROUND, np.int8)
    nearest = np.full(len(positions), np.inf)
    key_points = _transform(positions, np.linalg.inv(key_ego2global))
    half = annotations.size.astype(np.float64) / 2
    reach = np.linalg.norm(half, axis=1)
    for box, class_id in enumerate(annotations.class_ids):
        offset = key_points - annotations.center[box]
        near = np.flatnonzero((np.abs(offset[:, :2]) <= reach[box]).all(axis=1))
        offset = offset[near]
        inside = (np.abs(offset @ annotations.rotation[box]) <= half[box]).all(axis=1)
        distance = np.linalg.norm(offset, axis=1)
        win = near[inside & (distance < nearest[near])]
        class_ids[win] = class_id
        nearest[near] = np.where(inside, np.minimum(distance, nearest[near]), nearest[near])
    return class_ids


def project(points: LabelledPoints, frame: Frame) -> list[PixelPoints]:
    """Points each camera sees at its own time: deeper than 1 m, at least 1 px inside the image."""
    seen = []
    for global2cam, intrinsics, size in zip(
        frame.global2cam, frame.intrinsics, frame.image_sizes, strict=True
    ):
        camera_points = _transform(points.positions, global2cam)
        front = np.flatnonzero(camera_points[:, 2] > MIN_DEPTH)
        depth = camera_points[front, 2]
        uv = (camera_points[front] @ intrinsics.T)[:, :2] / depth[:, None]
        inside = ((uv > IMAGE_MARGIN) & (uv < size - IMAGE_MARGIN)).all(axis=1)
        u, v = uv[inside].astype(np.float32).T
        class_ids = points.class_ids[front[inside]]
        seen.append(PixelPoints(u, v, depth[inside].astype(np.float32), class_ids))
    return seen


def _transform(points: NDArray, a2b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 3) points of frame a -> b, in float64."""
    return points.astype(np.float64) @ a2b[:3, :3].T + a2b[:3, 3]


def label_path(label_dir: str | os.PathLike, sample_token: str) -> Path:
    """File of a sample's point labels."""
    return Path(label_dir) / f"{sample_token}.arrow"


def write_point_labels(
    path: str | os.PathLike, labels: Sequence[PixelPoints], image_sizes: NDArray, source: str
) -> None:
    """Writes a sample's labels atomically, 7 bytes a point.

    u and v are rounded to 1/32 px at 1600 x 900 (finer for smaller images), depth to 1/256 m.
    Points beyond 255.99 m, deeper than any depth bin, are left out. ``source`` names the data.
    """
    rows = []
    for points, size in zip(labels, image_sizes, strict=True):
        scale = 1 << max(0, (_UINT16_MAX // int(size.max())).bit_length() - 1)
        near = points.depth < _UINT16_MAX / _DEPTH_SCALE
        rows.append(
            {
                "pixel_scale": scale,
                "u": np.rint(points.u[near] * scale).astype(np.uint16),
                "v": np.rint(points.v[near] * scale).astype(np.uint16),
                "depth": np.rint(points.depth[near] * _DEPTH_SCALE).astype(np.uint16),
                "class_id": points.class_ids[near],
            }
        )
    columns = {name: [row[name] for row in rows] for name in _SCHEMA.names}
    write_table(path, pa.table(columns, schema=_SCHEMA), LABEL_FORMAT, {"source": source})


def read_point_labels(path: str | os.PathLike, source: str | None = None) -> list[PixelPoints]:
    """Labels of a sample, an entry a camera.

    Raises:
        FileNotFoundError, ValueError: no such file, not whole, of another format, or not made from
            the data that ``source`` names.
    """
    batch, header = read_table(path, LABEL_FORMAT)
    if source is not None and header.get("source") != source:
        raise ValueError(
            f"{path}: made from other tables ({header.get('source')}) than the index ({source}); "
            "run tools/prepare_nuscenes.py again"
        )
    columns = {}
    for name in ("u", "v", "depth", "class_id"):
        column = batch.column(name)
        columns[name] = np.split(column.values.to_numpy(), column.offsets.to_numpy()[1:-1])
    labels = []
    for camera, scale in enumerate(batch.column("pixel_scale").to_pylist()):
        u, v = (columns[name][camera].astype(np.float32) / np.float32(scale) for name in "uv")
        depth = columns["depth"][camera].astype(np.float32) / np.float32(_DEPTH_SCALE)
        labels.append(PixelPoints(u, v, depth, columns["class_id"][camera]))
    return labels
