"""Small data sets whose rows can be made wrong."""

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

SIZE = (64, 48)
Rows = list[tuple[Frame, Annotations]]


def pose(yaw: float = 0.0, x: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    matrix[0, 3] = x
    return matrix


def rows(count: int = 3) -> Rows:
    """Samples of one scene: two cameras, a sweep, two objects."""
    return [(_frame(row, count), _objects()) for row in range(count)]


def _frame(row: int, count: int) -> Frame:
    frame = fake_frame(row, count, image_sizes=(SIZE, SIZE))
    place = pose(0.1, 2.0 * row)
    return replace(
        frame,
        channels=("FRONT", "BACK"),
        ego2global=np.stack([place, place]),
        lidar=Lidar(f"sweeps/{row}.bin", frame.timestamp, pose(), place),
    )


def _objects() -> Annotations:
    boxes = np.array([[10, 0, 1, 4, 2, 1.6, 0.3, 1, 0], [9, 3, 1, 0.7, 0.7, 1.8, 0, 0, 0]])
    return Annotations.from_boxes(boxes, [0, 8], tokens=("a", "b"))


def data_set(folder: Path, made: Rows | None = None, **info: str) -> FrameDataset:
    """Writes the rows, and opens them."""
    write_index(folder / "index.arrow", rows() if made is None else made, info)
    return FrameDataset("made", FrameIndex(folder / "index.arrow"), folder)


def with_frame(row: int = 1, **changes) -> Rows:
    """Rows one of which has other fields."""
    made = rows()
    made[row] = (replace(made[row][0], **changes), made[row][1])
    return made


def with_objects(**changes) -> Rows:
    """Rows one of which has objects with other fields."""
    made = rows()
    made[1] = (made[1][0], replace(made[1][1], **changes))
    return made


def with_column(folder: Path, name: str, change: Callable[[list], list]) -> FrameIndex:
    """Opens an index that another program wrote: one of its columns is changed after the checks of
    writing."""
    data_set(folder)
    path = folder / "index.arrow"
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    place = table.schema.get_field_index(name)
    values = pa.array(change(table.column(name).to_pylist()), table.schema.field(name).type)
    write_table(path, table.set_column(place, table.schema.field(name), values), INDEX_FORMAT, {})
    return FrameIndex(path)


def set_item(row: int, value) -> Callable[[list], list]:
    """For ``with_column``: another value in a row."""
    return lambda values: [*values[:row], value, *values[row + 1 :]]
