"""Small data sets with rows that a test can change."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.fake import fake_frame
from fsdbev.data.index.frame_index import INDEX_FORMAT, FrameIndex, write_index
from fsdbev.data.index.records import Annotations, Frame, Lidar
from fsdbev.data.io.arrow_file import write_table
from fsdbev.structures import NUSCENES_CLASSES

SIZE = (64, 48)
Rows = list[tuple[Frame, Annotations]]


def pose(yaw: float = 0.0, x: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    matrix[0, 3] = x
    return matrix


def rows(count: int = 3) -> Rows:
    """Returns samples of one scene, with two cameras, a sweep and two objects."""
    return [(_frame(row, count), _objects()) for row in range(count)]


def _frame(row: int, count: int) -> Frame:
    frame = fake_frame(row, count, image_sizes=(SIZE, SIZE))
    ego2global = pose(0.1, 2.0 * row)
    return replace(
        frame,
        channels=("FRONT", "BACK"),
        ego2global=np.stack([ego2global, ego2global]),
        lidar=Lidar(f"sweeps/{row}.bin", frame.timestamp, pose(), ego2global),
    )


def _objects() -> Annotations:
    boxes = np.array([[10, 0, 1, 4, 2, 1.6, 0.3, 1, 0], [9, 3, 1, 0.7, 0.7, 1.8, 0, 0, 0]])
    return Annotations.from_boxes(boxes, [0, 8], tokens=("a", "b"))


def data_set(folder: Path, made: Rows | None = None, **info: str) -> FrameDataset:
    """Writes an index of the rows and opens it as a data set."""
    made = rows() if made is None else made
    write_index(folder / "index.arrow", made, NUSCENES_CLASSES, info)
    return FrameDataset("made", FrameIndex(folder / "index.arrow"), folder)


def with_frame(row: int = 1, **changes) -> Rows:
    """Returns rows with changed fields of one frame."""
    made = rows()
    made[row] = (replace(made[row][0], **changes), made[row][1])
    return made


def with_objects(**changes) -> Rows:
    """Returns rows with changed fields of the objects of one frame."""
    made = rows()
    made[1] = (made[1][0], replace(made[1][1], **changes))
    return made


def with_column(folder: Path, name: str, change: Callable[[list], list]) -> FrameIndex:
    """Opens an index with a changed column, as another program could write it without checks."""
    info = data_set(folder).index.info
    path = folder / "index.arrow"
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    index, field = table.schema.get_field_index(name), table.schema.field(name)
    values = pa.array(change(table.column(name).to_pylist()), field.type)
    write_table(path, table.set_column(index, field, values), INDEX_FORMAT, info)
    return FrameIndex(path)


def set_item(row: int, value) -> Callable[[list], list]:
    """Returns a change for ``with_column``: another value in one row."""
    return lambda values: [*values[:row], value, *values[row + 1 :]]
