"""nuScenes tables, read through the devkit with errors that name the file and the remedy."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from nuscenes.nuscenes import NuScenes
from nuscenes.utils.color_map import get_colormap

from fsdbev.structures import ClassSet
from fsdbev.utils.plain_file import open_file

#: Table -> required fields of its records, in addition to the token.
FIELDS = {
    "category": ("name",),
    "attribute": ("name",),
    "visibility": ("level",),
    "instance": ("category_token",),
    "sensor": ("channel", "modality"),
    "calibrated_sensor": ("sensor_token", "translation", "rotation", "camera_intrinsic"),
    "ego_pose": ("translation", "rotation"),
    "log": (),
    "scene": ("name", "first_sample_token"),
    "sample": ("timestamp", "prev", "next", "scene_token"),
    "sample_data": (
        "sample_token",
        "ego_pose_token",
        "calibrated_sensor_token",
        "timestamp",
        "filename",
        "is_key_frame",
        "width",
        "height",
    ),
    "sample_annotation": (
        "sample_token",
        "instance_token",
        "visibility_token",
        "attribute_tokens",
        "translation",
        "size",
        "rotation",
        "prev",
        "next",
        "num_lidar_pts",
        "num_radar_pts",
    ),
    "map": ("log_tokens", "filename"),
    "lidarseg": ("sample_data_token", "filename"),
}
_OPTIONAL = ("lidarseg",)
#: Categories of nuScenes, including those of lidarseg.
CATEGORY_NAMES = frozenset(get_colormap())
REMEDY = "correct it, or unpack the version's metadata again"
#: Bytes hashed at a time, so that a large table is never in memory as a whole.
_BLOCK = 1 << 22


class TableError(ValueError):
    """A malformed or inconsistent table. The message names the file and the remedy."""


def table_folder(dataroot: str | os.PathLike, version: str) -> Path:
    """Returns the folder of a version's tables."""
    return Path(dataroot) / version


def has_lidarseg(folder: Path) -> bool:
    """Checks whether the folder of tables includes the lidarseg table."""
    return (folder / "lidarseg.json").is_file()


def check_tables(dataroot: str | os.PathLike, version: str) -> None:
    """Checks that ``<dataroot>/<version>`` has all required tables.

    Raises:
        FileNotFoundError: lists the missing tables.
    """
    folder = table_folder(dataroot, version)
    needed = [name for name in FIELDS if name not in _OPTIONAL]
    missing = [f"{name}.json" for name in needed if not (folder / f"{name}.json").is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: missing {', '.join(missing)}; unpack the metadata of {version} there, or "
            "correct --dataroot or --version"
        )


def tables_fingerprint(dataroot: str | os.PathLike, version: str) -> str:
    """Returns a hash over the content of all tables that are used, 16 hex digits.

    ``splits.json`` is not included, because it selects scenes and changes no record.
    """
    digest = hashlib.sha256()
    for name in FIELDS:
        path = table_folder(dataroot, version) / f"{name}.json"
        if path.is_file():
            # Name and size separate the tables: the same bytes split differently hash differently.
            digest.update(f"{name} {path.stat().st_size}\n".encode())
            with open(path, "rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
    return digest.hexdigest()[:16]


def source_of(fingerprint: str, balance: float | None) -> str:
    """Returns the ``source`` of indexes and point labels: all that their content follows from.

    Args:
        fingerprint: see :func:`tables_fingerprint`.
        balance: of the rectification, see :func:`fsdbev.data.io.rectify.rectified_intrinsics`.
    """
    return fingerprint if balance is None else f"{fingerprint}, balance {float(balance)}"


def tables_size(dataroot: str | os.PathLike, version: str) -> int:
    """Returns the size of all JSON files of a version in bytes."""
    return sum(path.stat().st_size for path in table_folder(dataroot, version).glob("*.json"))


def read_json(path: Path) -> object:
    """Reads a JSON file.

    Raises:
        FileNotFoundError, OSError: the file is missing or can't be opened.
        TableError: the file is not JSON in UTF-8, or was cut short.
    """
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8") as file:
            return json.load(file)
    # RecursionError: deep nesting. ValueError: invalid syntax or encoding.
    except (RecursionError, ValueError) as error:
        raise TableError(f"{path}: is not valid JSON ({error}); {REMEDY}") from error


def read_records(folder: Path, name: str) -> list[dict]:
    """Reads the records of a table and checks that they have the fields listed in ``FIELDS``.

    Raises:
        FileNotFoundError, OSError: the table is missing or can't be opened.
        TableError: the table is not a JSON list of records, a record lacks a field, or a token is
            invalid or appears twice.
    """
    path = folder / f"{name}.json"
    records = read_json(path)
    needed = {"token", *FIELDS[name]} if name in FIELDS else set()
    if not isinstance(records, list):
        kind = type(records).__name__
        raise TableError(f"{path}: must be a list of records, got {kind}; {REMEDY}")
    for number, record in enumerate(records):
        if not (isinstance(record, dict) and needed <= record.keys()):
            lacking = sorted(needed - set(record if isinstance(record, dict) else ()))
            raise TableError(f"{path}: record {number} lacks {', '.join(lacking)}; {REMEDY}")
    if needed:
        _check_tokens(path, records)
    if name == "category" and has_lidarseg(folder):
        _check_indices(path, records)
    return records


def _check_tokens(path: Path, records: Sequence[dict]) -> None:
    """Checks that tokens are strings and unique: the devkit would use the last of two records."""
    seen = set()
    for number, record in enumerate(records):
        token = record["token"]
        if not isinstance(token, str) or token in seen:
            defect = "appears twice" if isinstance(token, str) else "is not a string"
            raise TableError(f"{path}: record {number}: token {token!r} {defect}; {REMEDY}")
        seen.add(token)


def _check_indices(path: Path, categories: Sequence[dict]) -> None:
    """Checks that every category has a lidarseg index, and that the indices are unique uint8."""
    indices = [category.get("index") for category in categories]
    if None in indices:
        raise TableError(
            f"{path}: category {categories[indices.index(None)]['name']!r} has no index, which "
            "lidarseg.json requires; use the category.json of nuScenes-lidarseg"
        )
    if not all(isinstance(i, int) and 0 <= i <= 255 for i in indices) or (
        len(set(indices)) < len(indices)
    ):
        raise TableError(
            f"{path}: the categories' lidarseg indices must be different numbers from 0 to 255, "
            f"got {indices}; use the category.json of nuScenes-lidarseg"
        )


def check_categories(folder: Path, classes: ClassSet, background: Sequence[str]) -> None:
    """Checks that ``category.json``, classes and the list of background categories fit together.

    Objects of a category that belongs to no class are background, so that a misspelt name would
    silently remove objects.

    Args:
        folder: folder of the tables.
        classes: classes with their categories.
        background: categories that neither nuScenes nor the classes have.

    Raises:
        TableError: lists the categories of the version that are in none of the three lists.
        ValueError: a category of a class exists neither in the version nor in nuScenes, or is named
            as background.
    """
    names = [category["name"] for category in read_records(folder, "category")]
    for class_name, categories in classes.categories.items():
        unknown = sorted(set(categories) - CATEGORY_NAMES - set(names))
        if unknown:
            near = get_close_matches(unknown[0], {*names, *CATEGORY_NAMES}, n=1, cutoff=0)
            raise ValueError(
                f"class {class_name!r} has the category {unknown[0]!r}, which is neither in "
                f"{folder / 'category.json'} nor in nuScenes; the nearest is {near[0]!r}: correct "
                "categories of the classes"
            )
        overruled = sorted(set(categories) & set(background))
        if overruled:
            raise ValueError(
                f"category {overruled[0]!r} is named as background, but belongs to the class "
                f"{class_name!r}; leave it out of --background, or out of the classes (--classes)"
            )
    known = CATEGORY_NAMES.union(background, *classes.categories.values())
    unknown = sorted(set(names) - known)
    if unknown:
        raise TableError(
            f"{folder / 'category.json'}: neither nuScenes nor a class has the category "
            f"{', '.join(unknown)}; rename it to one of theirs, add it to a class with --classes, "
            f"or treat it as background with --background {' '.join(unknown)}"
        )


def check_balance(folder: Path, balance: float | None) -> None:
    """Checks the balance of rectification.

    Raises:
        ValueError: it is not within 0..1, or no camera has a distortion.
    """
    if balance is None:
        return
    if not 0 <= balance <= 1:
        raise ValueError(f"--balance must be within 0..1, got {balance}")
    calibrations = read_records(folder, "calibrated_sensor")
    if not any(calibration.get("camera_distortion") for calibration in calibrations):
        raise ValueError(
            f"--balance {balance} has no effect: no record of {folder / 'calibrated_sensor.json'} "
            "has a camera_distortion; leave the option out"
        )


class NuScenesTables(NuScenes):
    """The devkit's :class:`NuScenes` with checked tables, without sensor data between key frames.

    References to missing records and records without a required field raise :class:`TableError`.
    ``lidarseg`` is empty for a version without that table, and its label files need not exist.

    Args:
        dataroot: nuScenes folder.
        version: folder of the tables in it; :func:`check_tables` must accept it.

    Raises:
        TableError: tables are damaged or inconsistent.
    """

    def __init__(self, dataroot: str | os.PathLike, version: str) -> None:
        try:
            super().__init__(version, str(dataroot), verbose=False)
        # The devkit checks little: inconsistent tables fail with whatever error comes first.
        except (AssertionError, IndexError, KeyError, TypeError) as error:
            raise TableError(
                f"{table_folder(dataroot, version)}: the tables don't fit together "
                f"({type(error).__name__}: {error}); {REMEDY}"
            ) from error
        self.lidarseg = read_records(self.folder, "lidarseg") if has_lidarseg(self.folder) else []
        self.table_names.append("lidarseg")
        self._token2ind["lidarseg"] = {r["token"]: i for i, r in enumerate(self.lidarseg)}

    @property
    def folder(self) -> Path:
        """Folder of the tables."""
        return table_folder(self.dataroot, self.version)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the tables, see :func:`tables_fingerprint`."""
        return tables_fingerprint(self.dataroot, self.version)

    @property
    def table_root(self) -> str:
        """Folder in which the devkit looks for its optional tables. It finds none there: it would
        refuse a lidarseg table of which a label file is missing."""
        return str(self.dataroot)

    def has(self, table_name: str, token: str) -> bool:
        """Checks whether the table exists and has a record with this token."""
        return token in self._token2ind.get(table_name, ())

    # table_root, __load_table__ and getind override members of the devkit.
    def __load_table__(self, table_name: str) -> list[dict]:
        records = read_records(self.folder, table_name)
        if table_name == "sample_data":
            # Unused here, and most of trainval's 2.6 million records: sweeps between key frames.
            records = [record for record in records if record["is_key_frame"]]
        return records

    def getind(self, table_name: str, token: str) -> int:
        try:
            return self._token2ind[table_name][token]
        except KeyError as error:
            raise TableError(
                f"{self.folder / table_name}.json: has no record {token!r}, which another table "
                f"refers to; {REMEDY}"
            ) from error
