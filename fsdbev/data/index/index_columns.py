"""Columns of the frame index: names, types, and the arrays that rows are views of.

An entry is the value of one camera, one LiDAR sweep or one object. A row has a list of entries in
each column of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsdbev.structures import LENS_MODELS, Lens

from .records import Annotations, Frame

FRAME_STRINGS = ("sample_token", "scene_token", "scene_name")
FRAME_INTEGERS = ("timestamp", "previous", "next", "reference_camera")
CAMERA_STRINGS = ("channels", "image_paths")
ANNOTATION_STRINGS = ("tokens", "instance_tokens", "attributes")
LIDAR_STRINGS = ("lidar_path", "lidarseg_path")  # the only columns that may contain nulls
LIDAR_NUMBERS = ("lidar2ego", "lidar_ego2global")
STRINGS = (*FRAME_STRINGS, *LIDAR_STRINGS)
INTEGERS = (*FRAME_INTEGERS, "lidar_timestamp")
#: Number of coefficients in a row; shorter models are padded with zeros, which change nothing.
MAX_COEFFICIENTS = max(map(max, LENS_MODELS.values()))
#: Columns of the lenses: one entry per camera; the model is "" for an image without distortion.
LENS_STRINGS = ("lens_models",)
LENS_NUMBERS = ("lens_intrinsics", "lens_coefficients")
STRING_LISTS = CAMERA_STRINGS + LENS_STRINGS + ANNOTATION_STRINGS
#: Column of numbers -> (type, shape of an entry).
NUMBER_LISTS: dict[str, tuple[type[np.number], tuple[int, ...]]] = {
    "image_sizes": (np.int32, (2,)),
    "image_crcs": (np.int64, ()),
    "camera_timestamps": (np.int64, ()),
    "intrinsics": (np.float64, (3, 3)),
    "lens_intrinsics": (np.float64, (3, 3)),
    "lens_coefficients": (np.float64, (MAX_COEFFICIENTS,)),
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
ANNOTATION_NUMBERS = tuple(f.name for f in fields(Annotations) if f.name in NUMBER_LISTS)
SCHEMA = pa.schema(
    [(name, pa.string()) for name in STRINGS]
    + [(name, pa.int64()) for name in INTEGERS]
    + [(name, pa.list_(pa.string())) for name in STRING_LISTS]
    + [(name, pa.list_(pa.from_numpy_dtype(kind))) for name, (kind, _) in NUMBER_LISTS.items()]
)


def lens_columns(frame: Frame) -> dict[str, Any]:
    """Returns the lens columns of a row.

    Raises:
        ValueError: the number of lenses differs from that of the cameras.
    """
    lenses = frame.lenses or (None,) * frame.num_cameras
    if len(lenses) != frame.num_cameras:
        raise ValueError(f"lenses has {len(lenses)} entries for {frame.num_cameras} cameras")
    intrinsics = np.tile(np.eye(3), (len(lenses), 1, 1))
    coefficients = np.zeros((len(lenses), MAX_COEFFICIENTS))
    for camera, lens in enumerate(lenses):
        if lens is not None:
            intrinsics[camera] = lens.intrinsics
            coefficients[camera, : len(lens.coefficients)] = lens.coefficients
    return {
        "lens_models": tuple("" if lens is None else lens.model for lens in lenses),
        "lens_intrinsics": intrinsics,
        "lens_coefficients": coefficients,
    }


def lenses_of_row(columns: IndexColumns, row: int) -> tuple[Lens | None, ...]:
    """Returns the lenses of a row; empty if no camera has one.

    Raises:
        ValueError: a lens is invalid.
    """
    models = columns.strings("lens_models", row)
    if not any(models):
        return ()
    intrinsics, coefficients = (columns.numbers(name, row) for name in LENS_NUMBERS)
    return tuple(
        Lens(model, k.copy(), tuple(c[: max(LENS_MODELS[model])].tolist())) if model else None
        for model, k, c in zip(models, intrinsics, coefficients, strict=True)
    )


def flat_numbers(name: str, value: Any) -> NDArray:
    """Converts the entries of a row to the type of a column of numbers.

    Args:
        name: name of the column.
        value: array of shape (entries, *entry shape).

    Returns:
        (numbers,) flat array of the column's type.

    Raises:
        ValueError: ``value`` is not numeric, does not divide into entries, or does not fit the
            column's integer type.
    """
    kind, shape = NUMBER_LISTS[name]
    try:
        given = np.asarray(value)
        numbers = given.astype(kind)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, got {value!r}") from error
    if numbers.size % max(1, int(np.prod(shape))):
        raise ValueError(f"{name} must have entries of shape {shape}, got shape {numbers.shape}")
    # astype wraps integers that are too large and truncates fractions without an error.
    if np.issubdtype(kind, np.integer) and not np.array_equal(numbers, given):
        raise ValueError(f"{name} must be integers that fit {np.dtype(kind)}, got {given}")
    return numbers.ravel()


@dataclass(frozen=True)
class IndexColumns:
    """A record batch as arrays by column name.

    Attributes:
        text: (rows,) Arrow arrays of strings or of lists of strings.
        integers: (rows,) int64.
        values: (entries, *entry shape), the entries of all rows of a column of numbers.
        offsets: (rows + 1,) index of each row's first entry in ``values``, and the end.
    """

    text: dict[str, pa.Array]
    integers: dict[str, NDArray[np.int64]]
    values: dict[str, NDArray]
    offsets: dict[str, NDArray[np.int64]]

    @classmethod
    def of_batch(cls, batch: pa.RecordBatch) -> IndexColumns:
        """Returns views of a batch that ``batch.validate(full=True)`` accepts.

        Raises:
            ValueError: the batch has other columns, no rows or missing values, or a list does not
                divide into entries.
        """
        if not batch.schema.equals(SCHEMA):
            raise ValueError(f"has columns {batch.schema.names}, expected {SCHEMA.names}")
        if not batch.num_rows:
            raise ValueError("an index needs at least one sample, got none")
        for name in SCHEMA.names:
            column = batch.column(name)
            inner = column.values.null_count if pa.types.is_list(column.type) else 0
            if inner or (column.null_count and name not in LIDAR_STRINGS):
                raise ValueError(f"{name} has missing values")
        numbers = {name: _entries(batch, name) for name in NUMBER_LISTS}
        return cls(
            text={name: batch.column(name) for name in STRINGS + STRING_LISTS},
            integers={name: batch.column(name).to_numpy() for name in INTEGERS},
            values={name: values for name, (values, _) in numbers.items()},
            offsets={name: offsets for name, (_, offsets) in numbers.items()},
        )

    def __len__(self) -> int:
        return len(self.text["sample_token"])

    def counts(self, name: str) -> NDArray[np.int64]:
        """Returns the number of entries of a list column in each row, (rows,)."""
        offsets = self.offsets.get(name)
        return np.diff(self.text[name].offsets.to_numpy() if offsets is None else offsets)

    def numbers(self, name: str, row: int) -> NDArray:
        """Returns the entries of a row as a view of ``values``."""
        return self.values[name][self.offsets[name][row] : self.offsets[name][row + 1]]

    def row_of(self, name: str, entry: int) -> int:
        """Returns the row that contains an entry of a column of numbers."""
        return int(np.searchsorted(self.offsets[name], entry, side="right")) - 1

    def codes(self, name: str) -> NDArray[np.int64]:
        """Returns (rows,) integer codes of a string column, numbered by first occurrence."""
        return self.text[name].dictionary_encode().indices.to_numpy().astype(np.int64)

    def strings(self, name: str, row: int) -> Sequence[str]:
        """Returns the list of strings of a row."""
        return tuple(self.text[name][row].as_py())


def _entries(batch: pa.RecordBatch, name: str) -> tuple[NDArray, NDArray[np.int64]]:
    """Returns the values and offsets of a column of numbers, see :class:`IndexColumns`."""
    column, shape = batch.column(name), NUMBER_LISTS[name][1]
    width = int(np.prod(shape))
    offsets, values = column.offsets.to_numpy(), column.values.to_numpy()
    # A slice of a larger batch has offsets that do not start at 0; views would read other rows.
    if (offsets % width).any() or offsets[0] != 0 or offsets[-1] != len(values):
        raise ValueError(f"{name} has lists that do not divide into entries of shape {shape}")
    return values.reshape(-1, *shape), offsets // width
