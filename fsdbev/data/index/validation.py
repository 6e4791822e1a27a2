"""What no sample of a frame index can be, whoever wrote it: an index is checked when it is written
and when it is opened, all rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from fsdbev.structures import (
    CLASS_NAMES,
    INTRINSICS_RULE,
    MAX_IMAGE_SIDE,
    are_intrinsics,
    is_rigid,
    is_rotation,
)

from .columns import (
    ANNOTATION_NUMBERS,
    ANNOTATION_STRINGS,
    CAMERA_NUMBERS,
    CAMERA_STRINGS,
    LIDAR_NUMBERS,
    LIDAR_STRINGS,
    IndexColumns,
)

#: No object is farther away, larger or faster: metres, m/s.
_LARGEST_OF_OBJECT = 1e5
#: An empty name, an absolute one, one with a drive, "..", a backslash or a control character.
_BAD_PATH = r"^$|^/|^[A-Za-z]:|(^|/)\.\.(/|$)|[\\\x00-\x1f\x7f]"
_BAD_TOKEN = r"^\.{0,2}$|[/\\\x00-\x1f\x7f]"


def check_index(columns: IndexColumns) -> None:
    """Raises ValueError that names the sample, what is wrong with it and what would be right."""
    check = _Check(columns)
    check.counts()
    check.names()
    check.cameras()
    check.poses()
    check.objects()
    check.links()
    check.times()


class _Check:
    def __init__(self, columns: IndexColumns) -> None:
        self.columns = columns
        self.rows = np.arange(len(columns))

    def counts(self) -> None:
        """Every camera, sweep and object has all its fields."""
        with_lidar = self.columns.text["lidar_path"].is_valid().to_numpy(False).astype(np.int64)
        labelled = self.columns.text["lidarseg_path"].is_valid().to_numpy(False)
        cameras, objects = self.columns.counts("channels"), self.columns.counts("tokens")
        self._counts("camera", cameras, CAMERA_STRINGS + CAMERA_NUMBERS)
        self._counts("sweep", with_lidar, LIDAR_NUMBERS)
        self._counts("object", objects, ANNOTATION_STRINGS + ANNOTATION_NUMBERS)
        for row in _first(labelled & (with_lidar == 0)):
            self._fail(row, "lidarseg labels without a sweep")
        for row in _first(cameras < 1):
            self._fail(row, "has no camera, a sample needs one at least")

    def _counts(self, what: str, expected: NDArray[np.int64], names: Sequence[str]) -> None:
        found = {name: self.columns.counts(name) for name in names}
        for row in _first(np.any([count != expected for count in found.values()], axis=0)):
            lengths = {name: int(count[row]) for name, count in found.items()}
            self._fail(row, f"every {what} field needs one entry a {what}, got {lengths}")

    def names(self) -> None:
        """Tokens name files, and files lie inside the data root."""
        tokens = self.columns.text["sample_token"]
        for row in _first(pc.match_substring_regex(tokens, _BAD_TOKEN).to_numpy(False)):
            self._fail(row, "a sample token names files, so it can't be empty or a path")
        if len(tokens.unique()) < len(tokens):
            again = np.ones(len(tokens), np.bool_)
            again[np.unique(self.columns.codes("sample_token"), return_index=True)[1]] = False
            self._fail(_first(again)[0], "is there twice; a sample needs a token of its own")
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
        """The rig, its images and its intrinsics."""
        sizes, intrinsics = self.columns.values["image_sizes"], self.columns.values["intrinsics"]
        for entry in _first(((sizes < 1) | (sizes > MAX_IMAGE_SIDE)).any(axis=1)):
            self._fail_entry("image_sizes", entry, f"images of {sizes[entry].tolist()} pixels")
        reference = self.columns.integers["reference_camera"]
        cameras = self.columns.counts("channels")
        for row in _first((reference < 0) | (reference >= cameras)):
            finding = f"reference_camera is {reference[row]}, the rig has {cameras[row]} cameras"
            self._fail(row, finding)
        for entry in _first(~are_intrinsics(_tensor(intrinsics)).numpy()):
            self._fail_entry(
                "intrinsics",
                entry,
                f"calibration is singular or not finite, or no camera's: {INTRINSICS_RULE}, got "
                f"{intrinsics[entry].tolist()}",
            )

    def poses(self) -> None:
        """Calibration and poses are rotations and translations."""
        for name in ("cam2ego", "ego2global", *LIDAR_NUMBERS):
            poses = self.columns.values[name]
            for entry in _first(~is_rigid(_tensor(poses)).numpy()):
                self._fail_entry(
                    name,
                    entry,
                    "calibration is singular or not finite, or mirrors or scales: "
                    f"{name} must be a rotation and a translation, got {poses[entry].tolist()}",
                )

    def objects(self) -> None:
        """Boxes are boxes, and classes ours."""
        values = self.columns.values
        ids, size, rotation = values["class_ids"], values["size"], values["rotation"]
        for entry in _first((ids < 0) | (ids >= len(CLASS_NAMES))):
            found = self.columns.numbers("class_ids", self.columns.row_of("class_ids", entry))
            self._fail_entry(
                "class_ids",
                entry,
                f"class ids must be 0 .. {len(CLASS_NAMES) - 1} (CLASS_NAMES), got {found}; leave "
                "out objects of other classes",
            )
        for name in ("center", "size", "velocity"):
            numbers = values[name]
            for entry in _first(~(np.abs(numbers) <= _LARGEST_OF_OBJECT).all(axis=1)):
                self._fail_entry(
                    name,
                    entry,
                    f"a box has a number that is not finite, or of no object: its {name} is "
                    f"{numbers[entry].tolist()}",
                )
        for entry in _first((size <= 0).any(axis=1)):
            finding = f"box sizes (l, w, h) must be positive, got {size[entry].tolist()}"
            self._fail_entry("size", entry, finding)
        for entry in _first(~is_rotation(_tensor(rotation)).numpy()):
            finding = (
                f"a box's rotation is no rotation matrix, or not finite: {rotation[entry].tolist()}"
            )
            self._fail_entry("rotation", entry, finding)

    def links(self) -> None:
        """Neighbours are in the same scene, on their side of the sample."""
        scenes = self.columns.codes("scene_token")
        for name, side in (("previous", -1), ("next", 1)):
            links = self.columns.integers[name]
            for row in _first((links < -1) | (links >= len(links))):
                allowed = f"rows 0 .. {len(links) - 1} or -1"
                self._fail(row, f"previous/next must be {allowed}, got {links[row]}")
            wrong = (scenes[links] != scenes) | ((links - self.rows) * side <= 0)
            for row in _first((links >= 0) & wrong):
                self._fail(
                    row,
                    f"{name} is row {links[row]}, which is not {name} in time in the same scene",
                )

    def times(self) -> None:
        """A scene's rows go forward in time."""
        scenes = self.columns.codes("scene_token")
        times = self.columns.integers["timestamp"]
        order = np.argsort(scenes, kind="stable")
        same = np.diff(scenes[order]) == 0
        for place in _first(same & (times[order[1:]] <= times[order[:-1]])):
            before, row = order[place], order[place + 1]
            self._fail(
                row,
                f"its timestamp {times[row]} is not after {times[before]}, that of row {before} of "
                "the same scene; sort the scene by time, or leave the sample out",
            )

    def _fail_entry(self, name: str, entry: int, finding: str) -> None:
        """Raises the error of the row that an entry of a column of numbers belongs to."""
        self._fail(self.columns.row_of(name, entry), finding)

    def _fail(self, row: int, finding: str) -> None:
        token = self.columns.text["sample_token"][int(row)].as_py()
        raise ValueError(f"sample {token!r} (row {row}): {finding}")


def _first(bad: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Index of the first True, or nothing."""
    return np.flatnonzero(bad)[:1]


def _tensor(values: NDArray) -> torch.Tensor:
    """A copy, as PyTorch takes no read-only arrays without a warning."""
    return torch.from_numpy(np.array(values))
