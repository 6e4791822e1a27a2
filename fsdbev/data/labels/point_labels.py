"""Point labels: LiDAR points seen by each camera, with depth and class, computed once offline.

A file holds a sample. A camera's points stand in four groups, so that a training can take or leave
either strategy of point cloud intensification (FSD-BEV, section 3.3) from one preparation. What
they are made by is in ``labelling``.

Shapes: P points, N cameras.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsdbev.data.io.arrow_file import FileFormat, read_table, write_table
from fsdbev.structures import CLASS_NAMES, Columns

BACKGROUND = -1


@dataclass(frozen=True)
class PixelPoints(Columns):
    """Points seen by one camera: (P,) float32 pixels ``u``, ``v`` of the original image, float32
    ``depth`` along the camera's axis in metres, int8 ``class_ids``, -1 background."""

    u: NDArray[np.float32]
    v: NDArray[np.float32]
    depth: NDArray[np.float32]
    class_ids: NDArray[np.int8]

    @classmethod
    def empty(cls) -> PixelPoints:
        return cls(*(np.zeros(0, kind) for kind in ("f4", "f4", "f4", "i1")))


@dataclass(frozen=True)
class PointLabels:
    """Point labels of one camera, by where they come from.

    Attributes:
        sweep: points of the sample's own sweep.
        combined: points of the neighbouring samples' sweeps.
        pseudo: one point for each object that has none even among the combined.
        pseudo_uncombined: for each object that has only combined points.
    """

    sweep: PixelPoints
    combined: PixelPoints
    pseudo: PixelPoints
    pseudo_uncombined: PixelPoints

    @property
    def groups(self) -> tuple[PixelPoints, ...]:
        """The four groups in the order of the attributes."""
        return tuple(getattr(self, f.name) for f in fields(self))

    def select(self, *, frame_combination: bool = True, pseudo_points: bool = True) -> PixelPoints:
        """Labels with the strategies switched on or off. Where points share a pixel the later one
        wins: combined points over the sweep's, pseudo points over both."""
        chosen = [self.sweep]
        if frame_combination:
            chosen.append(self.combined)
        if pseudo_points:
            chosen.append(self.pseudo)
            if not frame_combination:
                chosen.append(self.pseudo_uncombined)
        return PixelPoints.concatenate(chosen)

    @classmethod
    def empty(cls) -> PointLabels:
        return cls(*(PixelPoints.empty() for _ in fields(cls)))


GROUPS = tuple(f.name for f in fields(PointLabels))
LABEL_FORMAT = FileFormat(
    kind="point-labels",
    version=2,
    convention="a row a camera; group_sizes: points of " + ", ".join(GROUPS) + ", which follow in "
    "this order; u, v: pixels of the original image times pixel_scale; depth: metres times 256; "
    "class_id -1: background; classes " + " ".join(CLASS_NAMES),
)
_DEPTH_SCALE = 256
_UINT16_MAX = 65535
_SCHEMA = pa.schema(
    [
        ("pixel_scale", pa.int32()),
        ("group_sizes", pa.list_(pa.int32(), len(GROUPS))),
        ("u", pa.list_(pa.uint16())),
        ("v", pa.list_(pa.uint16())),
        ("depth", pa.list_(pa.uint16())),
        ("class_id", pa.list_(pa.int8())),
    ]
)


def label_path(label_dir: str | os.PathLike, sample_token: str) -> Path:
    """File of a sample's point labels."""
    return Path(label_dir) / f"{sample_token}.arrow"


def write_point_labels(
    path: str | os.PathLike,
    labels: Sequence[PointLabels],
    image_sizes: NDArray,
    *,
    source: str,
    statistics: str,
) -> None:
    """Writes a sample's labels atomically, 7 bytes a point.

    u and v are rounded to 1/32 px at 1600 x 900 (finer for smaller images), depth to 1/256 m.
    Points beyond 255.99 m, deeper than any depth bin, are left out.

    Args:
        labels: N, one a camera.
        image_sizes: (N, 2) width, height.
        source: names the tables the labels are made from.
        statistics: what is to be known of the sample without reading its points, see
            :func:`read_label_header`.
    """
    rows = []
    for camera, size in zip(labels, image_sizes, strict=True):
        scale = 1 << max(0, (_UINT16_MAX // int(size.max())).bit_length() - 1)
        groups = [group[group.depth < _UINT16_MAX / _DEPTH_SCALE] for group in camera.groups]
        points = PixelPoints.concatenate(groups)
        rows.append(
            {
                "pixel_scale": scale,
                "group_sizes": [len(group) for group in groups],
                "u": np.rint(points.u * scale).astype(np.uint16),
                "v": np.rint(points.v * scale).astype(np.uint16),
                "depth": np.rint(points.depth * _DEPTH_SCALE).astype(np.uint16),
                "class_id": points.class_ids,
            }
        )
    columns = {name: [row[name] for row in rows] for name in _SCHEMA.names}
    header = {"source": source, "statistics": statistics}
    write_table(path, pa.table(columns, schema=_SCHEMA), LABEL_FORMAT, header)


def read_label_header(path: str | os.PathLike) -> dict[str, str]:
    """``source`` and ``statistics`` as they were written, and what the format says.

    Raises:
        FileNotFoundError, ValueError: no such file, not whole, or of another format.
    """
    return read_table(path, LABEL_FORMAT)[1]


def read_point_labels(path: str | os.PathLike, source: str | None = None) -> list[PointLabels]:
    """Labels of a sample, an entry a camera.

    Raises:
        FileNotFoundError, ValueError: no such file, not whole, of another format, or not made from
            the data that ``source`` names, or its columns don't fit together.
    """
    batch, header = read_table(path, LABEL_FORMAT)
    if source is not None and header.get("source") != source:
        raise ValueError(
            f"{path}: made from other tables ({header.get('source')}) than the index ({source}); "
            "run tools/prepare_nuscenes.py again"
        )
    try:
        offsets, values, sizes = _checked(batch)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; remove it and make the labels again") from error
    labels = []
    for camera, scale in enumerate(batch.column("pixel_scale").to_pylist()):
        own = slice(offsets[camera], offsets[camera + 1])
        points = PixelPoints(
            values["u"][own] / np.float32(scale),
            values["v"][own] / np.float32(scale),
            values["depth"][own] / np.float32(_DEPTH_SCALE),
            values["class_id"][own],
        )
        ends = np.cumsum(sizes[camera])
        groups = (points[end - size : end] for end, size in zip(ends, sizes[camera], strict=True))
        labels.append(PointLabels(*groups))
    return labels


def _checked(
    batch: pa.RecordBatch,
) -> tuple[NDArray[np.int32], dict[str, NDArray], NDArray[np.int32]]:
    """Where each camera's points begin, the points' values by column, and (N, G) sizes of groups.

    Raises:
        ValueError: columns, lengths or classes are not as they were written.
    """
    if not batch.schema.equals(_SCHEMA):
        raise ValueError(f"columns {batch.schema.names} are not {_SCHEMA.names}")
    columns = {name: batch.column(name) for name in ("u", "v", "depth", "class_id")}
    groups, scale = batch.column("group_sizes"), batch.column("pixel_scale")
    lists = (groups, *columns.values())
    if any(column.null_count or column.values.null_count for column in lists) or scale.null_count:
        raise ValueError("a value is missing")
    values = {name: column.values.to_numpy() for name, column in columns.items()}
    offsets = columns["u"].offsets.to_numpy()
    if not all(np.array_equal(column.offsets, offsets) for column in columns.values()):
        raise ValueError("u, v, depth and class_id have different numbers of points")
    sizes = groups.values.to_numpy().reshape(-1, len(GROUPS))
    if (sizes < 0).any() or not np.array_equal(sizes.sum(axis=1), np.diff(offsets)):
        raise ValueError(f"group_sizes {sizes.tolist()} are not those of {np.diff(offsets)} points")
    if min(scale.to_pylist(), default=1) < 1:
        raise ValueError(f"pixel_scale must be 1 or more, got {scale.to_pylist()}")
    ids = values["class_id"]
    if len(ids) and not BACKGROUND <= ids.min() <= ids.max() < len(CLASS_NAMES):
        raise ValueError(f"class ids must be -1 .. {len(CLASS_NAMES) - 1}, got {np.unique(ids)}")
    return offsets, values, sizes
