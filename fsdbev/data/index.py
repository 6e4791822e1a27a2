"""The frame index: all that training and evaluation need of a split, in one memory-mapped file.

Any data set can fill one: build a :class:`Frame` and its :class:`Annotations` a sample, give them
to :func:`write_index`. Reading a row copies nothing; an index pickles as its path, so that loader
workers share the file's pages.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsdbev.structures import CLASS_NAMES

from .arrow_file import FileFormat, read_table, write_table
from .records import Annotations, Frame, Lidar

CONVENTION = (
    "key ego = ego pose of the reference camera; ego x forward, y left, z up; "
    "camera x right, y down, z forward; a2b matrices on column vectors; "
    "boxes: centre of gravity, (l, w, h), rotation to key ego, velocity (vx, vy); "
    "metres, m/s, microseconds; classes " + " ".join(CLASS_NAMES)
)
INDEX_FORMAT = FileFormat(kind="frame-index", version=1, convention=CONVENTION)

_FRAME_STRINGS = ("sample_token", "scene_token", "scene_name")
_FRAME_INTEGERS = ("timestamp", "previous", "next", "reference_camera")
_CAMERA_STRINGS = ("channels", "image_paths")
_CAMERA_NUMBERS = ("image_sizes", "camera_timestamps", "intrinsics", "cam2ego", "ego2global")
_ANNOTATION_STRINGS = ("tokens", "instance_tokens", "attributes")
_STRINGS = (*_FRAME_STRINGS, "lidar_path", "lidarseg_path")
_INTEGERS = (*_FRAME_INTEGERS, "lidar_timestamp")
_STRING_LISTS = _CAMERA_STRINGS + _ANNOTATION_STRINGS
#: Column of numbers -> (type, shape of one camera's, sweep's or object's entry).
_NUMBER_LISTS: dict[str, tuple[type[np.number], tuple[int, ...]]] = {
    "image_sizes": (np.int32, (2,)),
    "camera_timestamps": (np.int64, ()),
    "intrinsics": (np.float64, (3, 3)),
    "cam2ego": (np.float64, (4, 4)),
    "ego2global": (np.float64, (4, 4)),
    "lidar2ego": (np.float64, (4, 4)),
    "lidar_ego2global": (np.float64, (4, 4)),
    "class_ids": (np.int8, ()),
    "visibility": (np.int8, ()),
    "num_lidar_points": (np.int32, ()),
    "num_radar_points": (np.int32, ()),
    "center": (np.float32, (3,)),
    "size": (np.float32, (3,)),
    "rotation": (np.float32, (3, 3)),
    "velocity": (np.float32, (2,)),
}
_ANNOTATION_NUMBERS = tuple(f.name for f in fields(Annotations) if f.name in _NUMBER_LISTS)
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in _STRINGS]
    + [(name, pa.int64()) for name in _INTEGERS]
    + [(name, pa.list_(pa.string())) for name in _STRING_LISTS]
    + [(name, pa.list_(pa.from_numpy_dtype(kind))) for name, (kind, _) in _NUMBER_LISTS.items()]
)


def write_index(
    path: str | os.PathLike,
    rows: Iterable[tuple[Frame, Annotations]],
    info: Mapping[str, str] | None = None,
) -> None:
    """Writes an index file atomically.

    Args:
        path: the file; it keeps its old content until the new one is whole.
        rows: samples, a scene's in time order; ``previous`` and ``next`` count these rows.
        info: further header fields, found again in ``FrameIndex.info``.

    Raises:
        ValueError: no rows, or a row whose content does not fit together.
    """
    columns: dict[str, list] = {name: [] for name in _SCHEMA.names}
    for frame, objects in rows:
        _check(frame, len(columns["sample_token"]))
        _check_objects(frame, objects)
        for name, value in _row(frame, objects).items():
            columns[name].append(value)
    count = len(columns["sample_token"])
    if not count:
        raise ValueError(f"{path}: an index needs at least one sample, got none")
    links = np.array(columns["previous"] + columns["next"])
    if ((links < -1) | (links >= count)).any():
        raise ValueError(f"{path}: previous/next must be rows 0 .. {count - 1} or -1, got {links}")
    _check_order(columns)
    table = pa.table(columns, schema=_SCHEMA)
    write_table(path, table, INDEX_FORMAT, dict(info or {}))


def _check(frame: Frame, row: int) -> None:
    """Refuses a sample that can't be what its fields say."""
    where = f"sample {frame.sample_token!r} (row {row})"
    cameras = frame.num_cameras
    lengths = {name: len(getattr(frame, name)) for name in _CAMERA_STRINGS + _CAMERA_NUMBERS}
    if cameras < 1 or set(lengths.values()) != {cameras}:
        raise ValueError(f"{where}: every camera field needs one entry a camera, got {lengths}")
    if (np.asarray(frame.image_sizes) < 1).any():
        raise ValueError(f"{where}: images of {np.asarray(frame.image_sizes).tolist()} pixels")
    if not 0 <= frame.reference_camera < cameras:
        raise ValueError(
            f"{where}: reference_camera is {frame.reference_camera}, the rig has {cameras} cameras"
        )
    lidar = () if frame.lidar is None else (frame.lidar.lidar2ego, frame.lidar.ego2global)
    for matrix in (frame.intrinsics, frame.cam2ego, frame.ego2global, *lidar):
        if not (np.isfinite(matrix).all() and (np.abs(np.linalg.det(matrix)) > 1e-9).all()):
            raise ValueError(f"{where}: calibration is singular or not finite: {matrix}")
    paths = [*frame.image_paths]
    if frame.lidar is not None:
        paths += [frame.lidar.path, frame.lidar.lidarseg_path or "."]
    for path in map(PurePosixPath, paths):
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"{where}: file {str(path)!r} must be relative and inside the data root"
            )
    if os.path.basename(frame.sample_token) != frame.sample_token or not frame.sample_token:
        raise ValueError(f"{where}: a sample token names files, so it can't be empty or a path")


def _check_objects(frame: Frame, objects: Annotations) -> None:
    """Refuses boxes that are none and classes that are not ours."""
    where, ids = f"sample {frame.sample_token!r}", np.asarray(objects.class_ids)
    if ((ids < 0) | (ids >= len(CLASS_NAMES))).any():
        raise ValueError(
            f"{where}: class ids must be 0 .. {len(CLASS_NAMES) - 1} (CLASS_NAMES), got {ids}; "
            "leave out objects of other classes"
        )
    size, rotation = np.asarray(objects.size), np.asarray(objects.rotation)
    if not all(np.isfinite(v).all() for v in (objects.center, objects.velocity, size, rotation)):
        raise ValueError(f"{where}: a box has a number that is not finite")
    if (size <= 0).any():
        raise ValueError(f"{where}: box sizes (l, w, h) must be positive, got {size}")
    turned = rotation @ rotation.swapaxes(-1, -2)
    if np.abs(turned - np.eye(3)).max(initial=0) > 1e-3 or (np.linalg.det(rotation) < 0).any():
        raise ValueError(f"{where}: a box's rotation is no rotation matrix: {rotation}")


def _check_order(columns: Mapping[str, Sequence]) -> None:
    """Refuses scenes whose rows don't go forward in time, samples that are there twice, and
    neighbours on the wrong side."""
    scenes, times, latest = columns["scene_token"], columns["timestamp"], {}
    tokens = set()
    for row, scene in enumerate(scenes):
        token = columns["sample_token"][row]
        where = f"sample {token!r} (row {row})"
        if token in tokens:
            raise ValueError(f"{where}: is there twice; a sample needs a token of its own")
        tokens.add(token)
        before = latest.get(scene)
        if before is not None and times[row] <= times[before]:
            raise ValueError(
                f"{where}: its timestamp {times[row]} is not after {times[before]}, that of row "
                f"{before} of the same scene; sort the scene by time, or leave the sample out"
            )
        latest[scene] = row
        for name, side in (("previous", -1), ("next", 1)):
            other = columns[name][row]
            if other >= 0 and (scenes[other] != scene or (other - row) * side <= 0):
                raise ValueError(
                    f"{where}: {name} is row {other}, which is not {name} in time in the same scene"
                )


def _row(frame: Frame, annotations: Annotations) -> dict[str, Any]:
    """One sample as a value a column; arrays become flat lists."""
    lidar = frame.lidar
    row = {f.name: getattr(frame, f.name) for f in fields(Frame) if f.name != "lidar"}
    row.update({f.name: getattr(annotations, f.name) for f in fields(Annotations)})
    row.update(
        lidar_path=lidar.path if lidar else None,
        lidarseg_path=lidar.lidarseg_path if lidar else None,
        lidar_timestamp=lidar.timestamp if lidar else 0,
        lidar2ego=lidar.lidar2ego if lidar else np.zeros(0),
        lidar_ego2global=lidar.ego2global if lidar else np.zeros(0),
    )
    for name, (kind, shape) in _NUMBER_LISTS.items():
        value = np.asarray(row[name], kind)
        if value.size % max(1, int(np.prod(shape))):
            raise ValueError(f"{name} must be (..., {shape}), got {value.shape}")
        row[name] = value.ravel()
    return row


class FrameIndex(Sequence):
    """An index file, opened by memory map. ``index[row]`` is the row's :class:`Frame`.

    Raises ``FileNotFoundError`` or ``ValueError`` with the remedy if the file is missing, cut
    short, or of another schema version or coordinate convention.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        batch, self.info = read_table(path, INDEX_FORMAT)
        if not batch.schema.equals(_SCHEMA):
            raise ValueError(f"{path}: columns {batch.schema.names} are not {_SCHEMA.names}")
        self._length = batch.num_rows
        self._text = {name: batch.column(name) for name in _STRINGS + _STRING_LISTS}
        self._integer = {name: batch.column(name).to_numpy() for name in _INTEGERS}
        self._offsets = {name: batch.column(name).offsets.to_numpy() for name in _NUMBER_LISTS}
        self._values = {
            name: batch.column(name).values.to_numpy().reshape(-1, *shape)
            for name, (_, shape) in _NUMBER_LISTS.items()
        }

    def __reduce__(self) -> tuple:
        return (type(self), (self.path,))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> Frame:
        row = self._checked(row)
        return Frame(
            **{name: self._text[name][row].as_py() for name in _FRAME_STRINGS},
            **{name: int(self._integer[name][row]) for name in _FRAME_INTEGERS},
            **{name: tuple(self._text[name][row].as_py()) for name in _CAMERA_STRINGS},
            **{name: self._numbers(name, row) for name in _CAMERA_NUMBERS},
            lidar=self._lidar(row),
        )

    def annotations(self, row: int) -> Annotations:
        """Objects of a row, in its key ego frame."""
        row = self._checked(row)
        return Annotations(
            **{name: tuple(self._text[name][row].as_py()) for name in _ANNOTATION_STRINGS},
            **{name: self._numbers(name, row) for name in _ANNOTATION_NUMBERS},
        )

    def frame_rows(self, row: int, num_frames: int, spacing: int = 1) -> list[int]:
        """Rows of a sample and of those ``spacing``, 2 ``spacing``, ... samples before it in its
        scene, ``num_frames`` in all. Where the scene has none, the sample stands in for it."""
        rows = [self._checked(row)]
        earlier = rows[0]
        for _ in range(1, num_frames):
            for _ in range(spacing):
                earlier = int(self._integer["previous"][earlier]) if earlier >= 0 else -1
            rows.append(earlier if earlier >= 0 else rows[0])
        return rows

    @property
    def num_annotations(self) -> int:
        """Objects in all rows together; 0 in a test set."""
        return len(self._values["class_ids"])

    @property
    def sample_tokens(self) -> list[str]:
        """Tokens of all rows."""
        return self._text["sample_token"].to_pylist()

    def rows_of_scene(self, name: str) -> list[int]:
        """Rows of the samples of the scene with this name; none where there is no such scene."""
        names = self._text["scene_name"].to_pylist()
        return [row for row, of_row in enumerate(names) if of_row == name]

    @property
    def scene_names(self) -> list[str]:
        """Names of the scenes, in the order of their first rows."""
        return self._text["scene_name"].unique().to_pylist()

    @cached_property
    def scene_ids(self) -> NDArray[np.int64]:
        """(rows,) number of the scene of every row, in the order of their first rows."""
        codes = self._text["scene_token"].dictionary_encode().indices
        return codes.to_numpy().astype(np.int64)

    @cached_property
    def classes_with_points(self) -> NDArray[np.bool_]:
        """(rows, classes) which classes have an object with points in which row."""
        offsets = self._offsets["class_ids"]
        rows = np.repeat(np.arange(len(self)), np.diff(offsets))
        seen = (self._values["num_lidar_points"] + self._values["num_radar_points"]) > 0
        present = np.zeros((len(self), len(CLASS_NAMES)), np.bool_)
        present[rows[seen], self._values["class_ids"][seen]] = True
        return present

    def _checked(self, row: int) -> int:
        if not 0 <= row < self._length:
            raise IndexError(f"row {row} of {self._length} in {self.path}")
        return int(row)

    def _numbers(self, name: str, row: int) -> NDArray:
        offsets, shape = self._offsets[name], _NUMBER_LISTS[name][1]
        width = int(np.prod(shape))
        return self._values[name][offsets[row] // width : offsets[row + 1] // width]

    def _lidar(self, row: int) -> Lidar | None:
        path = self._text["lidar_path"][row].as_py()
        if path is None:
            return None
        return Lidar(
            path=path,
            timestamp=int(self._integer["lidar_timestamp"][row]),
            lidar2ego=self._numbers("lidar2ego", row)[0],
            ego2global=self._numbers("lidar_ego2global", row)[0],
            lidarseg_path=self._text["lidarseg_path"][row].as_py(),
        )
