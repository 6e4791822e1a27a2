"""The frame index: the samples and annotations of a split in one memory-mapped Arrow file.

Training and evaluation read everything except images and point labels from it. To use another data
set, build a :class:`Frame` and its :class:`Annotations` for each sample and pass them to
:func:`write_index`. The arrays of a row are views of the file, without a copy. An index pickles as
its path, so that loader workers share the memory pages of the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from fsdbev.data.io.arrow_file import REMEDY, FileFormat, read_table, write_table
from fsdbev.structures import ClassSet

from .index_columns import (
    ANNOTATION_NUMBERS,
    ANNOTATION_STRINGS,
    CAMERA_STRINGS,
    FRAME_INTEGERS,
    FRAME_STRINGS,
    NUMBER_LISTS,
    SCHEMA,
    IndexColumns,
    flat_numbers,
    lens_columns,
    lenses_of_row,
)
from .records import CAMERA_NUMBERS, Annotations, Frame, Lidar
from .validation import check_index

# Compared as text: changing its words makes existing files unreadable.
CONVENTION = (
    "key ego = ego pose of the reference camera; ego x forward, y left, z up; "
    "camera x right, y down, z forward; a2b matrices on column vectors; "
    "boxes: centre of gravity, (l, w, h), rotation to key ego, velocity (vx, vy); "
    "metres, m/s, microseconds; intrinsics of rectified images"
)
INDEX_FORMAT = FileFormat(kind="frame-index", version=2, convention=CONVENTION)
#: Header field with the classes, JSON of ``ClassSet.to_dict``.
CLASSES_FIELD = "fsdbev.classes"
#: Default of ``dataloader.max_frame_gap``: the largest distance in time of a frame from its key
#: frame, as a multiple of the usual one.
MAX_FRAME_GAP = 2.5


def write_index(
    path: str | os.PathLike,
    rows: Iterable[tuple[Frame, Annotations]],
    classes: ClassSet,
    info: Mapping[str, str] | None = None,
) -> None:
    """Writes an index file atomically.

    Args:
        path: path of the file; an existing file stays intact until the new one is complete.
        rows: samples with their annotations; those of a scene in order of time. ``previous`` and
            ``next`` of a frame are positions in this sequence.
        classes: the classes that the annotations' ids index.
        info: further header fields, available as ``FrameIndex.info``.

    Raises:
        ValueError: there are no rows, or a row fails :func:`check_index`.
        OSError: the file can't be written.
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
    check_index(IndexColumns.of_batch(batch), classes)
    header = {**(info or {}), CLASSES_FIELD: json.dumps(classes.to_dict())}
    write_table(path, pa.Table.from_batches([batch]), INDEX_FORMAT, header)


def frames_by_time(times: ArrayLike, num_frames: int, interval: float) -> NDArray[np.int64]:
    """Chooses the T frames of samples by time.

    Args:
        times: (..., K) times of the key frame and of the frames before it, latest first, seconds;
            -inf for none.
        num_frames: T.
        interval: seconds between two frames.

    Returns:
        (..., T) positions in ``times``: for frame t the one nearest to t intervals before the key
        frame; 0, the key frame, if none is within half an interval of that time. The later one of
        two equally near frames.
    """
    times = np.asarray(times)
    positions = np.zeros((*times.shape[:-1], num_frames), np.int64)
    for number in range(1, num_frames):
        # Whole microseconds, as in an index, so that rounding of floats decides nothing.
        distance = np.abs(times - (times[..., :1] - number * interval)).round(6)
        is_near = distance.min(axis=-1) <= interval / 2
        positions[..., number] = np.where(is_near, distance.argmin(axis=-1), 0)
    return positions


def _row(frame: Frame, annotations: Annotations) -> dict[str, Any]:
    """Returns the values of a sample by column name; arrays are flattened."""
    lidar = frame.lidar
    apart = ("lidar", "lenses", "reference_pose")
    row = {f.name: getattr(frame, f.name) for f in fields(Frame) if f.name not in apart}
    row.update(lens_columns(frame))
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


def _classes(header: Mapping[str, str]) -> ClassSet:
    """Returns the classes in the header of an index."""
    try:
        content = json.loads(header.get(CLASSES_FIELD, ""))
    except (RecursionError, ValueError) as error:
        raise ValueError("its header has no classes") from error
    return ClassSet.from_dict(content, "the header")


class FrameIndex(Sequence):
    """A memory-mapped index file. ``index[row]`` is the :class:`Frame` of a row.

    The constructor checks all rows once.

    Args:
        path: path of the file.

    Attributes:
        info: header fields of the file.
        classes: the classes that the annotations' ids index.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, has another schema version or convention, or contains a
            sample that fails :func:`check_index`.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        self._usual: dict[int, float] = {}  # of _usual_distance
        batch, self.info = read_table(path, INDEX_FORMAT)
        try:
            self.classes = _classes(self.info)
            self._columns = IndexColumns.of_batch(batch)
            check_index(self._columns, self.classes)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; {REMEDY}") from error

    def __reduce__(self) -> tuple:
        # The columns are views of a memory map and would be copied into the pickle.
        return (type(self), (self.path,))

    def __len__(self) -> int:
        return len(self._columns)

    def __getitem__(self, row: int) -> Frame:
        row = self._checked_row(row)
        columns = self._columns
        return Frame(
            **{name: columns.text[name][row].as_py() for name in FRAME_STRINGS},
            **{name: int(columns.integers[name][row]) for name in FRAME_INTEGERS},
            **{name: columns.strings(name, row) for name in CAMERA_STRINGS},
            **{name: columns.numbers(name, row) for name in CAMERA_NUMBERS},
            lidar=self._lidar(row),
            lenses=lenses_of_row(columns, row),
        )

    def annotations(self, row: int) -> Annotations:
        """Returns the objects of a row, in its key ego frame."""
        row = self._checked_row(row)
        return Annotations(
            **{name: self._columns.strings(name, row) for name in ANNOTATION_STRINGS},
            **{name: self._columns.numbers(name, row) for name in ANNOTATION_NUMBERS},
        )

    def frame_rows(
        self,
        row: int,
        num_frames: int,
        spacing: int = 1,
        interval: float | None = None,
        max_gap: float = MAX_FRAME_GAP,
    ) -> list[int]:
        """Returns the rows of the T frames of a sample, key frame first.

        Args:
            row: row of the key frame.
            num_frames: T.
            spacing: distance between two consecutive frames, in samples of the scene.
            interval: distance in seconds instead: frame t is the sample nearest to t intervals
                before the key frame, if it is at most half an interval away from that time.
            max_gap: without ``interval``, the largest distance of frame t from the key frame in
                time, as a multiple of its median in the index.

        Returns:
            T rows. ``row`` itself replaces missing frames, as at the start of a scene
            (docs/model.md, "Training data").
        """
        rows = np.array([self._checked_row(row)])
        return self._frame_rows(rows, num_frames, spacing, interval, max_gap)[0].tolist()

    def gap_report(
        self,
        num_frames: int = 2,
        spacing: int = 1,
        interval: float | None = None,
        max_gap: float = MAX_FRAME_GAP,
    ) -> str:
        """Describes the samples of which :meth:`frame_rows` replaces a frame although their scene
        has a sample from that time or before; empty if there are none. Arguments as there."""
        rows = np.arange(len(self))
        frames = self._frame_rows(rows, num_frames, spacing, interval, max_gap)
        is_lacking = np.zeros(len(self), np.bool_)
        for t in range(1, num_frames):
            if interval is None:
                has_earlier = self._before(rows, t * spacing) >= 0
            else:
                has_earlier = self._age > (t + 0.5) * interval * 1e6
            is_lacking |= (frames[:, t] == rows) & has_earlier
        if not is_lacking.any():
            return ""
        steps = np.where(is_lacking, self._times - self._times[self._before(rows, 1)], 0)
        worst = int(steps.argmax())
        setting = f"frame_interval={interval}" if interval else f"max_frame_gap={max_gap}"
        return (
            f"{is_lacking.sum()} of {len(self)} samples lack an earlier frame, which the key frame "
            f"replaces, because samples are too far apart (dataloader.{setting}), such as "
            f"{self[worst].sample_token}, {steps[worst] / 1e6:g} s after the one before it, "
            f"usually {self._usual_distance(1) / 1e6:g} s"
        )

    def _frame_rows(
        self,
        rows: NDArray[np.int64],
        num_frames: int,
        spacing: int,
        interval: float | None,
        max_gap: float,
    ) -> NDArray[np.int64]:
        """Returns the (R, T) rows of the frames of R samples, see :meth:`frame_rows`."""
        if interval is not None:
            chains = self._chains(rows, (num_frames - 0.5) * interval)
            times = np.where(chains >= 0, self._times[chains] / 1e6, -np.inf)
            return np.take_along_axis(chains, frames_by_time(times, num_frames, interval), axis=1)
        frames, earlier = [rows], rows
        for samples in range(spacing, num_frames * spacing, spacing):
            earlier = self._before(earlier, spacing)
            limit = max_gap * self._usual_distance(samples)
            is_missing = (earlier < 0) | (self._times[rows] - self._times[earlier] > limit)
            frames.append(np.where(is_missing, rows, earlier))
        return np.stack(frames, axis=1)

    def _before(self, rows: NDArray[np.int64], samples: int) -> NDArray[np.int64]:
        """Returns the rows a number of samples earlier in their scenes; -1 for none."""
        for _ in range(samples):
            rows = np.where(rows >= 0, self._columns.integers["previous"][rows], -1)
        return rows

    def _usual_distance(self, samples: int) -> float:
        """Returns the median time between two samples of a scene that are a number of samples
        apart, microseconds; infinity if there are none."""
        if samples not in self._usual:
            earlier = self._before(np.arange(len(self)), samples)
            distances = (self._times - self._times[earlier])[earlier >= 0]
            # The lower one of two middle values: in a short index the mean could contain a gap.
            median = np.quantile(distances, 0.5, method="lower") if len(distances) else np.inf
            self._usual[samples] = float(median)
        return self._usual[samples]

    def _chains(self, rows: NDArray[np.int64], seconds: float) -> NDArray[np.int64]:
        """Returns (R, K) rows and those before them in their scenes, latest first, up to a number
        of seconds earlier; -1 for none."""
        # Rounded, because the product of two floats may be just below a whole microsecond.
        limit = round(seconds * 1e6)
        chains, earlier = [], rows
        while (earlier >= 0).any():
            chains.append(earlier)
            earlier = self._before(earlier, 1)
            earlier[self._times[rows] - self._times[earlier] > limit] = -1
        return np.stack(chains, axis=1)

    @cached_property
    def _times(self) -> NDArray[np.float64]:
        """(rows,) times, whole microseconds. Differences of int64 could overflow."""
        return self._columns.integers["timestamp"].astype(np.float64)

    @cached_property
    def _age(self) -> NDArray[np.float64]:
        """(rows,) time since the first sample that links of ``previous`` lead to, microseconds."""
        first = np.arange(len(self))
        # A previous row is always an earlier one.
        for row, previous in enumerate(self._columns.integers["previous"].tolist()):
            first[row] = first[previous] if previous >= 0 else row
        return self._times - self._times[first]

    def most_frames_back(self, num_frames: int, interval: float) -> int:
        """Returns the largest number of samples from a key frame back to the earliest one that
        :meth:`frame_rows` can choose by ``interval``."""
        return self._chains(np.arange(len(self)), (num_frames - 0.5) * interval).shape[1] - 1

    @property
    def num_annotations(self) -> int:
        """Number of objects in all rows; 0 in a test set."""
        return len(self._columns.values["class_ids"])

    @property
    def sample_tokens(self) -> list[str]:
        """Sample tokens of all rows."""
        return self._columns.text["sample_token"].to_pylist()

    def rows_of_scene(self, name: str) -> list[int]:
        """Returns the rows of a scene; empty if the index has no scene of this name."""
        names = self._columns.text["scene_name"].to_pylist()
        return [row for row, scene_name in enumerate(names) if scene_name == name]

    @property
    def scene_names(self) -> list[str]:
        """Names of the scenes, ordered by their first rows."""
        return self._columns.text["scene_name"].unique().to_pylist()

    @cached_property
    def scene_ids(self) -> NDArray[np.int64]:
        """(rows,) number of the scene of every row; scenes are ordered by their first rows."""
        return self._columns.codes("scene_token")

    @cached_property
    def classes_with_points(self) -> NDArray[np.bool_]:
        """(rows, classes) True for rows with an object of the class with points."""
        values = self._columns.values
        rows = np.repeat(np.arange(len(self)), self._columns.counts("class_ids"))
        has_points = (values["num_lidar_points"] + values["num_radar_points"]) > 0
        present = np.zeros((len(self), len(self.classes)), np.bool_)
        present[rows[has_points], values["class_ids"][has_points]] = True
        return present

    def _checked_row(self, row: int) -> int:
        # No negative rows: -1 marks a missing neighbour and must not select the last row.
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
