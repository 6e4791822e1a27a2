"""Point labels: LiDAR points in each camera image with depth and class, computed once offline.

Shapes: P points, N cameras, G groups.

A file contains the labels of one sample, computed by :class:`PointLabeller`. The points of a camera
are stored in four groups, so that trainings can switch each strategy of point cloud intensification
(FSD-BEV, arXiv:2407.10135, section 3.3) on or off without new files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from fsdbev.data.index.records import Frame
from fsdbev.data.io.arrow_file import FileFormat, read_table, write_table
from fsdbev.structures import ClassSet, Columns, DepthBins

BACKGROUND = -1


@dataclass(frozen=True)
class PixelPoints(Columns):
    """Points in the image of one camera.

    Attributes:
        u, v: (P,) float32 pixel coordinates in the original image.
        depth: (P,) float32 z in the camera frame, metres.
        class_ids: (P,) int8 class id, -1 for background.
    """

    u: NDArray[np.float32]
    v: NDArray[np.float32]
    depth: NDArray[np.float32]
    class_ids: NDArray[np.int8]

    @classmethod
    def empty(cls) -> PixelPoints:
        """Returns no points."""
        return cls(*(np.zeros(0, kind) for kind in ("f4", "f4", "f4", "i1")))


@dataclass(frozen=True)
class PointLabels:
    """Point labels of one camera, grouped by origin.

    Attributes:
        sweep: points of the sample's own sweep.
        combined: points of the neighbouring samples' sweeps on static objects.
        pseudo: one point per visible object without points in ``sweep`` and ``combined``.
        pseudo_uncombined: one point per visible object with points in ``combined`` only.
    """

    sweep: PixelPoints
    combined: PixelPoints
    pseudo: PixelPoints
    pseudo_uncombined: PixelPoints

    @property
    def groups(self) -> tuple[PixelPoints, ...]:
        """The G groups in the order of the attributes."""
        return tuple(getattr(self, f.name) for f in fields(self))

    def within_bins(self, depth_bins: DepthBins, depth_scale: float) -> PointLabels:
        """Returns the labels without the pseudo points that are outside of the depth bins.

        Training drops points outside of its bins, but only after they have replaced others in the
        same pixel. LiDAR points are kept, as in the release.

        Args:
            depth_bins: the depth bins of the model.
            depth_scale: factor on the depth by image augmentation.
        """

        def kept(points: PixelPoints) -> PixelPoints:
            if not len(points):  # of most cameras
                return points
            scaled = torch.from_numpy(points.depth * np.float32(depth_scale))
            # Both rules of depth labels: a depth of exactly ``stop`` has no bin.
            has_bin = depth_bins.contains(scaled) & (depth_bins.index(scaled) >= 0)
            return points[has_bin.numpy()]

        return replace(
            self, pseudo=kept(self.pseudo), pseudo_uncombined=kept(self.pseudo_uncombined)
        )

    def select(self, *, frame_combination: bool = True, pseudo_points: bool = True) -> PixelPoints:
        """Returns the points of the selected strategies.

        The order matters, because the last point in a pixel wins: combined points replace those of
        the sweep, and pseudo points replace both.

        Args:
            frame_combination: adds the combined points.
            pseudo_points: adds one point per visible object that has no other point.
        """
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
        """Returns labels without points."""
        return cls(*(PixelPoints.empty() for _ in fields(cls)))


GROUPS = tuple(f.name for f in fields(PointLabels))
# The convention is compared as text: changing its words makes existing files unreadable.
LABEL_FORMAT = FileFormat(
    kind="point-labels",
    version=3,
    convention="a row a camera; group_sizes: points of " + ", ".join(GROUPS) + ", which follow in "
    "this order; u, v: pixels of the original image times pixel_scale; depth: metres times 256; "
    "class_id -1: background; pseudo points of any depth",
)
_DEPTH_SCALE = 256
_UINT16_MAX = 65535
#: Largest depth that a file can contain, metres.
MAX_LABEL_DEPTH = _UINT16_MAX / _DEPTH_SCALE
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
    """Returns the path of a sample's point labels."""
    return Path(label_dir) / f"{sample_token}.arrow"


def write_point_labels(
    path: str | os.PathLike,
    labels: Sequence[PointLabels],
    frame: Frame,
    *,
    source: str,
    classes: ClassSet,
    statistics: str,
) -> None:
    """Writes the labels of a sample atomically, with 7 bytes per point.

    u and v are rounded to 1/32 px for 1600 x 900 images (finer for smaller ones), depth to 1/256 m.
    Points beyond 255.99 m, which is deeper than any depth bin, are dropped.

    Args:
        path: path of the file.
        labels: labels of the N cameras.
        frame: the sample, whose camera names are stored.
        source: identifies the tables that the labels are computed from.
        classes: the classes of the points.
        statistics: text that :func:`read_label_header` returns without reading the points.

    Raises:
        OSError: the file can't be written.
    """
    rows = []
    for camera, size in zip(labels, frame.image_sizes, strict=True):
        # The largest power of two that fits the image into 16 bits: dividing by it is exact.
        scale = 1 << max(0, (_UINT16_MAX // int(size.max())).bit_length() - 1)
        groups = [group[group.depth < MAX_LABEL_DEPTH] for group in camera.groups]
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
    header = {
        "source": source,
        "classes": _rules_text(classes),
        "channels": json.dumps(frame.channels),
        "statistics": statistics,
    }
    write_table(path, pa.table(columns, schema=_SCHEMA), LABEL_FORMAT, header)


def read_label_header(path: str | os.PathLike) -> dict[str, str]:
    """Returns the header fields: ``source``, ``classes``, ``channels``, ``statistics`` and those
    of the format.

    Raises:
        FileNotFoundError, ValueError: the file is missing, damaged, or of another format.
    """
    return read_table(path, LABEL_FORMAT)[1]


def has_classes(header: Mapping[str, str], classes: ClassSet) -> bool:
    """Checks whether the header of a label file belongs to labels of these classes."""
    return header.get("classes") == _rules_text(classes)


def _rules_text(classes: ClassSet) -> str:
    return json.dumps(classes.label_rules)


def read_point_labels(
    path: str | os.PathLike, classes: ClassSet, source: str | None = None
) -> dict[str, PointLabels]:
    """Reads the labels of a sample by camera name.

    Args:
        path: path of the file.
        classes: expected classes of the file.
        source: expected ``source`` of the file; None accepts any.

    Raises:
        FileNotFoundError, ValueError: the file is missing, damaged, of another format, of other
            classes or of another ``source``.
    """
    batch, header = read_table(path, LABEL_FORMAT)
    if not has_classes(header, classes):
        raise ValueError(
            f"{path}: made for other classes ({header.get('classes')}) than the index "
            f"({_rules_text(classes)}); run tools/prepare_nuscenes.py again"
        )
    if source is not None and header.get("source") != source:
        raise ValueError(
            f"{path}: made from other tables ({header.get('source')}) than the index ({source}); "
            "run tools/prepare_nuscenes.py again"
        )
    try:
        offsets, values, sizes = _checked_columns(batch, len(classes))
        channels = _channels(header, batch.num_rows)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; remove it and make the labels again") from error
    labels = {}
    for camera, scale in enumerate(batch.column("pixel_scale").to_pylist()):
        of_camera = slice(offsets[camera], offsets[camera + 1])
        points = PixelPoints(
            values["u"][of_camera] / np.float32(scale),
            values["v"][of_camera] / np.float32(scale),
            values["depth"][of_camera] / np.float32(_DEPTH_SCALE),
            values["class_id"][of_camera],
        )
        ends = np.cumsum(sizes[camera])
        groups = (points[end - size : end] for end, size in zip(ends, sizes[camera], strict=True))
        labels[channels[camera]] = PointLabels(*groups)
    return labels


def _channels(header: Mapping[str, str], count: int) -> list[str]:
    try:
        channels = json.loads(header.get("channels", ""))
        valid = len(set(channels)) == count and all(isinstance(name, str) for name in channels)
    except (RecursionError, TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f"its header has no names of its {count} cameras")
    return channels


def _checked_columns(
    batch: pa.RecordBatch, num_classes: int
) -> tuple[NDArray[np.int32], dict[str, NDArray], NDArray[np.int32]]:
    """Checks a table of labels.

    Returns:
        (N + 1,) offsets of the cameras' points, the values of all points by column, and the
        (N, G) sizes of the groups.

    Raises:
        ValueError: columns, lengths or values are not those that ``write_point_labels`` writes.
    """
    if not batch.schema.equals(_SCHEMA):
        raise ValueError(f"has columns {batch.schema.names}, expected {_SCHEMA.names}")
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
        rule = f"must be at least 0 and add up to {np.diff(offsets)} points"
        raise ValueError(f"group_sizes {sizes.tolist()} {rule}")
    if min(scale.to_pylist(), default=1) < 1:
        raise ValueError(f"pixel_scale must be 1 or more, got {scale.to_pylist()}")
    ids = values["class_id"]
    if len(ids) and not BACKGROUND <= ids.min() <= ids.max() < num_classes:
        raise ValueError(f"class ids must be -1 .. {num_classes - 1}, got {np.unique(ids)}")
    return offsets, values, sizes
