"""What no sample of a frame index can be, whoever wrote it: an index is checked when it is written
and when it is opened, all rows at once.

Letters: E entries of all rows' cameras, sweeps or objects.
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

from .index_columns import (
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
        cameras = self.columns.counts("channels")
        self._counts("camera", cameras, CAMERA_STRINGS + CAMERA_NUMBERS)
        self._counts("sweep", with_lidar, LIDAR_NUMBERS)
        self._counts("object", self.columns.counts("tokens"), ANNOTATION_STRINGS)
        self._counts("object", self.columns.counts("tokens"), ANNOTATION_NUMBERS)
        self._refuse(labelled & (with_lidar == 0), lambda row: "lidarseg labels without a sweep")
        self._refuse(cameras < 1, lambda row: "has no camera, a sample needs one at least")

    def _counts(self, what: str, expected: NDArray[np.int64], names: Sequence[str]) -> None:
        found = {name: self.columns.counts(name) for name in names}
        wrong = np.any([count != expected for count in found.values()], axis=0)

        def finding(row: int) -> str:
            lengths = {name: int(count[row]) for name, count in found.items()}
            return f"every {what} field needs one entry a {what}, got {lengths}"

        self._refuse(wrong, finding)

    def names(self) -> None:
        """Tokens name files, and files lie inside the data root."""
        tokens = self.columns.text["sample_token"]
        bad = pc.match_substring_regex(tokens, _BAD_TOKEN).to_numpy(False)
        self._refuse(bad, lambda row: "a sample token names files, so it can't be empty or a path")
        if len(tokens.unique()) < len(tokens):
            codes = tokens.dictionary_encode().indices.to_numpy()
            again = np.ones(len(tokens), np.bool_)
            again[np.unique(codes, return_index=True)[1]] = False
            self._refuse(again, lambda row: "is there twice; a sample needs a token of its own")
        paths = self.columns.text["image_paths"]
        self._paths(paths.values, np.repeat(self.rows, self.columns.counts("image_paths")))
        for name in LIDAR_STRINGS:
            self._paths(self.columns.text[name], self.rows)

    def _paths(self, paths: pa.Array, rows: NDArray[np.int64]) -> None:
        bad = pc.match_substring_regex(paths, _BAD_PATH).fill_null(False).to_numpy(False)
        for entry in np.flatnonzero(bad)[:1]:
            self._fail(
                rows[entry],
                f"file {paths[entry].as_py()!r} must be relative and inside the data root, with / "
                "between folders",
            )

    def cameras(self) -> None:
        """The rig, its images and its intrinsics."""
        sizes, intrinsics = self.columns.values["image_sizes"], self.columns.values["intrinsics"]
        self._refuse_entries(
            "image_sizes",
            ((sizes < 1) | (sizes > MAX_IMAGE_SIDE)).any(axis=1),
            lambda entry: f"images of {sizes[entry].tolist()} pixels",
        )
        reference = self.columns.integers["reference_camera"]
        cameras = self.columns.counts("channels")
        self._refuse(
            (reference < 0) | (reference >= cameras),
            lambda row: (
                f"reference_camera is {reference[row]}, the rig has {cameras[row]} cameras"
            ),
        )
        self._refuse_entries(
            "intrinsics",
            ~are_intrinsics(_tensor(intrinsics)).numpy(),
            lambda entry: (
                f"calibration is singular or not finite, or no camera's: {INTRINSICS_RULE}, got "
                f"{intrinsics[entry].tolist()}"
            ),
        )

    def poses(self) -> None:
        """Calibration and poses are rotations and translations."""
        for name in ("cam2ego", "ego2global", *LIDAR_NUMBERS):
            poses = self.columns.values[name]
            self._refuse_entries(
                name,
                ~is_rigid(_tensor(poses)).numpy(),
                lambda entry, name=name, poses=poses: (
                    "calibration is singular or not finite, or mirrors or scales: "
                    f"{name} must be a rotation and a translation, got {poses[entry].tolist()}"
                ),
            )

    def objects(self) -> None:
        """Boxes are boxes, and classes ours."""
        values = self.columns.values
        ids, size, rotation = values["class_ids"], values["size"], values["rotation"]
        self._refuse_entries(
            "class_ids",
            (ids < 0) | (ids >= len(CLASS_NAMES)),
            lambda entry: (
                f"class ids must be 0 .. {len(CLASS_NAMES) - 1} (CLASS_NAMES), got "
                f"{self.columns.numbers('class_ids', self.columns.row_of('class_ids', entry))}; "
                "leave out objects of other classes"
            ),
        )
        for name in ("center", "size", "velocity"):
            numbers = values[name]
            self._refuse_entries(
                name,
                ~(np.abs(numbers) <= _LARGEST_OF_OBJECT).all(axis=1),
                lambda entry, name=name, numbers=numbers: (
                    f"a box has a number that is not finite, or of no object: its {name} is "
                    f"{numbers[entry].tolist()}"
                ),
            )
        self._refuse_entries(
            "size",
            (size <= 0).any(axis=1),
            lambda entry: (f"box sizes (l, w, h) must be positive, got {size[entry].tolist()}"),
        )
        self._refuse_entries(
            "rotation",
            ~is_rotation(_tensor(rotation)).numpy(),
            lambda entry: (
                f"a box's rotation is no rotation matrix, or not finite: "
                f"{rotation[entry].tolist()}"
            ),
        )

    def links(self) -> None:
        """Neighbours are in the same scene, on their side of the sample."""
        scenes = self._scenes()
        for name, side in (("previous", -1), ("next", 1)):
            links = self.columns.integers[name]
            self._refuse(
                (links < -1) | (links >= len(links)),
                lambda row, links=links: (
                    f"previous/next must be rows 0 .. {len(links) - 1} or -1, got {links[row]}"
                ),
            )
            wrong = (scenes[links] != scenes) | ((links - self.rows) * side <= 0)
            self._refuse(
                (links >= 0) & wrong,
                lambda row, name=name, links=links: (
                    f"{name} is row {links[row]}, which is not {name} in time in the same scene"
                ),
            )

    def times(self) -> None:
        """A scene's rows go forward in time."""
        scenes, times = self._scenes(), self.columns.integers["timestamp"]
        order = np.argsort(scenes, kind="stable")
        same = np.diff(scenes[order]) == 0
        late = np.flatnonzero(same & (times[order[1:]] <= times[order[:-1]]))
        for place in late[:1]:
            before, row = order[place], order[place + 1]
            self._fail(
                row,
                f"its timestamp {times[row]} is not after {times[before]}, that of row {before} of "
                "the same scene; sort the scene by time, or leave the sample out",
            )

    def _scenes(self) -> NDArray[np.int64]:
        codes = self.columns.text["scene_token"].dictionary_encode().indices
        return codes.to_numpy().astype(np.int64)

    def _refuse(self, bad: NDArray[np.bool_], finding) -> None:
        """Fails at the first of the (rows,) mask, with what ``finding`` says of it."""
        for row in np.flatnonzero(bad)[:1]:
            self._fail(row, finding(row))

    def _refuse_entries(self, name: str, bad: NDArray[np.bool_], finding) -> None:
        """The same for the (E,) mask of a column's entries."""
        for entry in np.flatnonzero(bad)[:1]:
            self._fail(self.columns.row_of(name, entry), finding(entry))

    def _fail(self, row: int, finding: str) -> None:
        token = self.columns.text["sample_token"][int(row)].as_py()
        raise ValueError(f"sample {token!r} (row {row}): {finding}")


def _tensor(values: NDArray) -> torch.Tensor:
    """A copy, as PyTorch takes no read-only arrays without a warning."""
    return torch.from_numpy(np.array(values))
