"""Checks of the frame index, run on all rows when an index is written and when it is opened.

An index may come from another program, so that reading it repeats the checks of writing it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from fsdbev.structures import (
    INTRINSICS_RULE,
    LENS_MODELS,
    MAX_IMAGE_SIDE,
    ClassSet,
    is_intrinsics,
    is_rigid,
    is_rotation,
)

from .index_columns import (
    ANNOTATION_NUMBERS,
    ANNOTATION_STRINGS,
    CAMERA_STRINGS,
    LENS_NUMBERS,
    LENS_STRINGS,
    LIDAR_NUMBERS,
    LIDAR_STRINGS,
    IndexColumns,
)
from .records import CAMERA_NUMBERS, UNKNOWN_CRC, rig_text

#: Limit of an object's coordinates (metres), size (metres) and velocity (m/s).
_MAX_OBJECT_VALUE = 1e5
#: Matches paths that could leave the data root on some system: empty or absolute paths, and paths
#: with a drive, "..", a backslash or a control character.
_BAD_PATH = r"^$|^/|^[A-Za-z]:|(^|/)\.\.(/|$)|[\\\x00-\x1f\x7f]"
#: Matches tokens that are no plain file names.
_BAD_TOKEN = r"^\.{0,2}$|[/\\\x00-\x1f\x7f]"
#: Remedy for samples whose cameras differ.
SAME_RIG = (
    "linked samples need the same cameras and image sizes: resize images and intrinsics, or begin "
    "another scene where they change"
)


def check_index(columns: IndexColumns, classes: ClassSet) -> None:
    """Checks all rows of an index.

    Args:
        columns: the index.
        classes: the classes that its class ids index.

    Raises:
        ValueError: a row is invalid; the message names the sample, the finding and the remedy.
    """
    check = _Check(columns)
    # First, because the other checks assume one entry per camera, sweep or object.
    check.counts()
    check.names()
    check.cameras()
    check.poses()
    check.lenses()
    check.objects(classes)
    check.links()
    check.rigs()
    check.times()


class _Check:
    """Checks on the columns of an index; each method raises ValueError for the first bad row."""

    def __init__(self, columns: IndexColumns) -> None:
        self.columns = columns
        self.rows = np.arange(len(columns))

    def counts(self) -> None:
        """Checks that every camera, sweep and object has one entry in each of its columns."""
        with_lidar = self.columns.text["lidar_path"].is_valid().to_numpy(False).astype(np.int64)
        labelled = self.columns.text["lidarseg_path"].is_valid().to_numpy(False)
        cameras, objects = self.columns.counts("channels"), self.columns.counts("tokens")
        camera_columns = CAMERA_STRINGS + CAMERA_NUMBERS + LENS_STRINGS + LENS_NUMBERS
        self._counts("camera", cameras, camera_columns)
        self._counts("sweep", with_lidar, LIDAR_NUMBERS)
        self._counts("object", objects, ANNOTATION_STRINGS + ANNOTATION_NUMBERS)
        for row in _first(labelled & (with_lidar == 0)):
            self._fail(row, "has lidarseg labels but no LiDAR sweep")
        for row in _first(cameras < 1):
            self._fail(row, "has no camera; a sample needs at least one")

    def _counts(self, item: str, expected: NDArray[np.int64], names: Sequence[str]) -> None:
        found = {name: self.columns.counts(name) for name in names}
        for row in _first(np.any([count != expected for count in found.values()], axis=0)):
            lengths = {name: int(count[row]) for name, count in found.items()}
            self._fail(row, f"every {item} field needs one entry per {item}, got {lengths}")

    def names(self) -> None:
        """Checks that tokens are unique file names and that paths are inside the data root."""
        tokens = self.columns.text["sample_token"]
        for row in _first(pc.match_substring_regex(tokens, _BAD_TOKEN).to_numpy(False)):
            self._fail(row, "a sample token is used as a file name, so it can't be empty or a path")
        if len(tokens.unique()) < len(tokens):
            repeated = np.ones(len(tokens), np.bool_)
            repeated[np.unique(self.columns.codes("sample_token"), return_index=True)[1]] = False
            self._fail(_first(repeated)[0], "its token appears twice; sample tokens must be unique")
        paths = self.columns.text["image_paths"]
        self._paths(paths.values, np.repeat(self.rows, self.columns.counts("image_paths")))
        for name in LIDAR_STRINGS:
            self._paths(self.columns.text[name], self.rows)

    def _paths(self, paths: pa.Array, rows: NDArray[np.int64]) -> None:
        bad = pc.match_substring_regex(paths, _BAD_PATH).fill_null(False).to_numpy(False)
        for entry in _first(bad):
            self._fail(
                rows[entry],
                f"file {paths[entry].as_py()!r} must be relative and inside the data root, with / "
                "between folders",
            )

    def cameras(self) -> None:
        """Checks image sizes and checksums, the reference camera and the intrinsics."""
        sizes, intrinsics = self.columns.values["image_sizes"], self.columns.values["intrinsics"]
        for entry in _first(((sizes < 1) | (sizes > MAX_IMAGE_SIDE)).any(axis=1)):
            finding = f"image_sizes must be 1 .. {MAX_IMAGE_SIDE} px, got {sizes[entry].tolist()}"
            self._fail_entry("image_sizes", entry, finding)
        crcs = self.columns.values["image_crcs"]
        for entry in _first((crcs < UNKNOWN_CRC) | (crcs >> 32 > 0)):
            rule = f"image_crcs must be CRC-32, or {UNKNOWN_CRC} where unknown"
            self._fail_entry("image_crcs", entry, f"{rule}, got {crcs[entry]}")
        reference = self.columns.integers["reference_camera"]
        cameras = self.columns.counts("channels")
        for row in _first((reference < 0) | (reference >= cameras)):
            count = f"the rig has {cameras[row]} cameras"
            self._fail(row, f"reference_camera is {reference[row]}, but {count}")
        for entry in _first(~is_intrinsics(_tensor(intrinsics)).numpy()):
            rule = f"calibration is not of a pinhole camera: {INTRINSICS_RULE}"
            self._fail_entry("intrinsics", entry, f"{rule}, got {intrinsics[entry].tolist()}")

    def poses(self) -> None:
        """Checks that extrinsics and ego poses are finite rigid transforms."""
        for name in ("cam2ego", "ego2global", *LIDAR_NUMBERS):
            poses = self.columns.values[name]
            for entry in _first(~is_rigid(_tensor(poses)).numpy()):
                finding = "calibration is singular, not finite, or has a reflection or a scale"
                rule = f"{name} must be a rotation and a translation"
                self._fail_entry(name, entry, f"{finding}: {rule}, got {poses[entry].tolist()}")

    def lenses(self) -> None:
        """Checks the models of the lenses, their intrinsics and their coefficients."""
        models = self.columns.text["lens_models"].values.to_pylist()
        intrinsics = self.columns.values["lens_intrinsics"]
        coefficients = self.columns.values["lens_coefficients"]
        for entry in _first(np.array([model not in ("", *LENS_MODELS) for model in models])):
            rule = f"a lens model is {' or '.join(LENS_MODELS)}, or empty"
            self._fail_entry("lens_intrinsics", entry, f"{rule}, got {models[entry]!r}")
        skewed = intrinsics[:, (0, 1), (1, 0)].any(axis=1)
        for entry in _first(skewed | ~is_intrinsics(_tensor(intrinsics)).numpy()):
            finding = f"lens {INTRINSICS_RULE}, got {intrinsics[entry].tolist()}"
            self._fail_entry("lens_intrinsics", entry, finding)
        limits = {"": 0, **{model: max(counts) for model, counts in LENS_MODELS.items()}}
        limit = np.array([[limits[model]] for model in models])
        extra = (np.arange(coefficients.shape[1]) >= limit) & (coefficients != 0)
        for entry in _first((extra | ~np.isfinite(coefficients)).any(axis=1)):
            rule = f"a lens of model {models[entry]!r} has {limits[models[entry]]} coefficients"
            finding = f"{rule}, finite; the others are 0, got {coefficients[entry].tolist()}"
            self._fail_entry("lens_coefficients", entry, finding)

    def objects(self, classes: ClassSet) -> None:
        """Checks class ids, and that boxes have finite values, positive sizes and rotations."""
        values = self.columns.values
        ids, size, rotation = values["class_ids"], values["size"], values["rotation"]
        for entry in _first((ids < 0) | (ids >= len(classes))):
            found = self.columns.numbers("class_ids", self.columns.row_of("class_ids", entry))
            self._fail_entry(
                "class_ids",
                entry,
                f"class ids must be 0 .. {len(classes) - 1} ({', '.join(classes.names)}), got "
                f"{found}; leave out objects of other classes",
            )
        for name in ("center", "size", "velocity"):
            numbers = values[name]
            # Negated, because NaN is false in every comparison.
            for entry in _first(~(np.abs(numbers) <= _MAX_OBJECT_VALUE).all(axis=1)):
                rule = f"a box's {name} must be finite and at most {_MAX_OBJECT_VALUE:g}"
                self._fail_entry(name, entry, f"{rule}, got {numbers[entry].tolist()}")
        for entry in _first((size <= 0).any(axis=1)):
            finding = f"box sizes (l, w, h) must be positive, got {size[entry].tolist()}"
            self._fail_entry("size", entry, finding)
        for entry in _first(~is_rotation(_tensor(rotation)).numpy()):
            finding = f"a box's rotation must be a rotation matrix, got {rotation[entry].tolist()}"
            self._fail_entry("rotation", entry, finding)

    def links(self) -> None:
        """Checks that ``previous`` and ``next`` are earlier and later rows of the same scene."""
        scenes = self.columns.codes("scene_token")
        for name, side in (("previous", -1), ("next", 1)):
            links = self.columns.integers[name]
            for row in _first((links < -1) | (links >= len(links))):
                allowed = f"rows 0 .. {len(links) - 1} or -1"
                self._fail(row, f"previous/next must be {allowed}, got {links[row]}")
            # A link of -1 indexes the last row here; the mask below excludes it.
            wrong = (scenes[links] != scenes) | ((links - self.rows) * side <= 0)
            for row in _first((links >= 0) & wrong):
                self._fail(
                    row,
                    f"{name} is row {links[row]}, which is not {name} in time in the same scene",
                )

    def rigs(self) -> None:
        """Checks that each sample has the cameras and image sizes of the one before it."""
        counts, offsets = self.columns.counts("channels"), self.columns.offsets["image_sizes"]
        names = self.columns.text["channels"].flatten().dictionary_encode().indices.to_numpy()
        cameras = np.column_stack([names, self.columns.values["image_sizes"]])
        previous = self.columns.integers["previous"]
        # A row without one, or with another number of cameras, is compared with itself.
        other_count = (previous >= 0) & (counts != counts[previous])
        before = np.where((previous < 0) | other_count, self.rows, previous)
        entries = np.arange(len(cameras)) + np.repeat(offsets[before] - offsets[:-1], counts)
        differs = (cameras != cameras[entries]).any(axis=1)
        for row in _first(other_count | np.logical_or.reduceat(differs, offsets[:-1])):
            self._fail(
                row,
                f"its cameras are {self._rig(row)}, but those of {self._name(previous[row])}, "
                f"the one before it, are {self._rig(previous[row])}; {SAME_RIG}",
            )

    def times(self) -> None:
        """Checks that the rows of each scene are in order of time."""
        scenes = self.columns.codes("scene_token")
        times = self.columns.integers["timestamp"]
        order = np.argsort(scenes, kind="stable")
        same = np.diff(scenes[order]) == 0
        for pair in _first(same & (times[order[1:]] <= times[order[:-1]])):
            before, row = order[pair], order[pair + 1]
            self._fail(
                row,
                f"its timestamp {times[row]} is not after {times[before]}, that of row {before} of "
                "the same scene; sort the scene by time, or leave the sample out",
            )

    def _fail_entry(self, name: str, entry: int, finding: str) -> None:
        """Raises the error of the row that contains an entry of a column of numbers."""
        self._fail(self.columns.row_of(name, entry), finding)

    def _fail(self, row: int, finding: str) -> None:
        raise ValueError(f"{self._name(row)}: {finding}")

    def _name(self, row: int) -> str:
        return f"sample {self.columns.text['sample_token'][int(row)].as_py()!r} (row {row})"

    def _rig(self, row: int) -> str:
        columns = self.columns
        return rig_text(columns.strings("channels", row), columns.numbers("image_sizes", row))


def _first(bad: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns the index of the first True as an array of one element, or an empty array."""
    return np.flatnonzero(bad)[:1]


def _tensor(values: NDArray) -> torch.Tensor:
    """Copies an array into a tensor."""
    # The arrays of a memory map are read-only, for which torch.from_numpy warns.
    return torch.from_numpy(np.array(values))
