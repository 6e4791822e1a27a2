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
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsdbev.data.io.arrow_file import REMEDY, FileFormat, read_table, write_table
from fsdbev.structures import CLASS_NAMES

from .columns import (
    ANNOTATION_NUMBERS,
    ANNOTATION_STRINGS,
    CAMERA_NUMBERS,
    CAMERA_STRINGS,
    FRAME_INTEGERS,
    FRAME_STRINGS,
    NUMBER_LISTS,
    SCHEMA,
    IndexColumns,
    flat_numbers,
)
from .records import Annotations, Frame, Lidar
from .validation import check_index

CONVENTION = (
    "key ego = ego pose of the reference camera; ego x forward, y left, z up; "
    "camera x right, y down, z forward; a2b matrices on column vectors; "
    "boxes: centre of gravity, (l, w, h), rotation to key ego, velocity (vx, vy); "
    "metres, m/s, microseconds; classes " + " ".join(CLASS_NAMES)
)
INDEX_FORMAT = FileFormat(kind="frame-index", version=1, convention=CONVENTION)


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
    columns: dict[str, list] = {name: [] for name in SCHEMA.names}
    for frame, objects in rows:
        where = f"sample {frame.sample_token!r} (row {len(columns['sample_token'])})"
        try:
            row = _row(frame, objects)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        for name, value in row.items():
            columns[name].append(value)
    if not columns["sample_token"]:
        raise ValueError(f"{path}: an index needs at least one sample, got none")
    batch = _batch(columns)
    check_index(IndexColumns.of_batch(batch))
    write_table(path, pa.Table.from_batches([batch]), INDEX_FORMAT, dict(info or {}))


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
    return row | {name: flat_numbers(name, row[name]) for name in NUMBER_LISTS}


def _batch(columns: Mapping[str, list]) -> pa.RecordBatch:
    arrays = []
    for field in SCHEMA:
        try:
            arrays.append(pa.array(columns[field.name], field.type))
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{field.name} can't be stored as {field.type}: {error}") from error
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


class FrameIndex(Sequence):
    """An index file, opened by memory map. ``index[row]`` is the row's :class:`Frame`.

    Raises ``FileNotFoundError`` or ``ValueError`` with the remedy if the file is missing, cut
    short, of another schema version or coordinate convention, or has a sample that can't be; all
    rows are checked once, here.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        batch, self.info = read_table(path, INDEX_FORMAT)
        try:
            self._columns = IndexColumns.of_batch(batch)
            check_index(self._columns)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; {REMEDY}") from error

    def __reduce__(self) -> tuple:
        return (type(self), (self.path,))

    def __len__(self) -> int:
        return len(self._columns)

    def __getitem__(self, row: int) -> Frame:
        row = self._checked(row)
        columns = self._columns
        return Frame(
            **{name: columns.text[name][row].as_py() for name in FRAME_STRINGS},
            **{name: int(columns.integers[name][row]) for name in FRAME_INTEGERS},
            **{name: columns.strings(name, row) for name in CAMERA_STRINGS},
            **{name: columns.numbers(name, row) for name in CAMERA_NUMBERS},
            lidar=self._lidar(row),
        )

    def annotations(self, row: int) -> Annotations:
        """Objects of a row, in its key ego frame."""
        row = self._checked(row)
        return Annotations(
            **{name: self._columns.strings(name, row) for name in ANNOTATION_STRINGS},
            **{name: self._columns.numbers(name, row) for name in ANNOTATION_NUMBERS},
        )

    def frame_rows(self, row: int, num_frames: int, spacing: int = 1) -> list[int]:
        """Rows of a sample and of those ``spacing``, 2 ``spacing``, ... samples before it in its
        scene, ``num_frames`` in all. Where the scene has none, the sample stands in for it."""
        rows = [self._checked(row)]
        earlier = rows[0]
        for _ in range(1, num_frames):
            for _ in range(spacing):
                earlier = int(self._columns.integers["previous"][earlier]) if earlier >= 0 else -1
            rows.append(earlier if earlier >= 0 else rows[0])
        return rows

    @property
    def num_annotations(self) -> int:
        """Objects in all rows together; 0 in a test set."""
        return len(self._columns.values["class_ids"])

    @property
    def sample_tokens(self) -> list[str]:
        """Tokens of all rows."""
        return self._columns.text["sample_token"].to_pylist()

    def rows_of_scene(self, name: str) -> list[int]:
        """Rows of the samples of the scene with this name; none where there is no such scene."""
        names = self._columns.text["scene_name"].to_pylist()
        return [row for row, of_row in enumerate(names) if of_row == name]

    @property
    def scene_names(self) -> list[str]:
        """Names of the scenes, in the order of their first rows."""
        return self._columns.text["scene_name"].unique().to_pylist()

    @cached_property
    def scene_ids(self) -> NDArray[np.int64]:
        """(rows,) number of the scene of every row, in the order of their first rows."""
        return self._columns.codes("scene_token")

    @cached_property
    def classes_with_points(self) -> NDArray[np.bool_]:
        """(rows, classes) which classes have an object with points in which row."""
        offsets = self._columns.offsets["class_ids"]
        rows = np.repeat(np.arange(len(self)), np.diff(offsets))
        seen = (
            self._columns.values["num_lidar_points"] + self._columns.values["num_radar_points"]
        ) > 0
        present = np.zeros((len(self), len(CLASS_NAMES)), np.bool_)
        present[rows[seen], self._columns.values["class_ids"][seen]] = True
        return present

    def _checked(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} in {self.path}")
        return int(row)

    def _lidar(self, row: int) -> Lidar | None:
        path = self._columns.text["lidar_path"][row].as_py()
        if path is None:
            return None
        return Lidar(
            path=path,
            timestamp=int(self._columns.integers["lidar_timestamp"][row]),
            lidar2ego=self._columns.numbers("lidar2ego", row)[0],
            ego2global=self._columns.numbers("lidar_ego2global", row)[0],
            lidarseg_path=self._columns.text["lidarseg_path"][row].as_py(),
        )
