"""nuScenes' tables: read through the devkit, whose failures become errors that name file and
remedy."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from nuscenes.nuscenes import NuScenes
from nuscenes.utils.color_map import get_colormap

from fsdbev.utils.plain_file import open_file

#: Table -> fields, beside the token, that its records must have.
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
#: nuScenes' category names, with those of lidarseg.
CATEGORY_NAMES = frozenset(get_colormap())
REMEDY = "correct it, or unpack the version's metadata anew"
_BLOCK = 1 << 22


class TableError(ValueError):
    """A table says what can't be. The message names the file and what to do."""


def table_folder(dataroot: str | os.PathLike, version: str) -> Path:
    """Folder of a version's tables."""
    return Path(dataroot) / version


def has_lidarseg(folder: Path) -> bool:
    """Whether the tables come with those of lidarseg."""
    return (folder / "lidarseg.json").is_file()


def check_tables(dataroot: str | os.PathLike, version: str) -> None:
    """Raises FileNotFoundError that lists the tables missing in ``<dataroot>/<version>``."""
    folder = table_folder(dataroot, version)
    needed = [name for name in FIELDS if name not in _OPTIONAL]
    missing = [f"{name}.json" for name in needed if not (folder / f"{name}.json").is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: missing {', '.join(missing)}; unpack the metadata of {version} there, or "
            "name another --dataroot or --version"
        )


def tables_fingerprint(dataroot: str | os.PathLike, version: str) -> str:
    """Short hash of the content of all tables that are used: other tables, another hash.

    ``splits.json`` is left out: it chooses scenes and changes none.
    """
    digest = hashlib.sha256()
    for name in FIELDS:
        path = table_folder(dataroot, version) / f"{name}.json"
        if path.is_file():
            digest.update(f"{name} {path.stat().st_size}\n".encode())
            with open(path, "rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
    return digest.hexdigest()[:16]


def tables_size(dataroot: str | os.PathLike, version: str) -> int:
    """Bytes of all tables."""
    return sum(path.stat().st_size for path in table_folder(dataroot, version).glob("*.json"))


def read_json(path: Path) -> object:
    """Content of a JSON file.

    Raises:
        TableError: it is not JSON, or only the beginning of some.
    """
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8") as file:
            return json.load(file)
    except (RecursionError, ValueError) as error:  # of the syntax or of the encoding
        raise TableError(f"{path}: is no whole JSON ({error}); {REMEDY}") from error


def read_records(folder: Path, name: str) -> list[dict]:
    """Records of a table, each with the fields of ``FIELDS``.

    Raises:
        TableError: not JSON, no list of records, or one lacks a field.
    """
    path = folder / f"{name}.json"
    records = read_json(path)
    needed = {"token", *FIELDS.get(name, ())} if name in FIELDS else set()
    if not isinstance(records, list):
        raise TableError(f"{path}: must be a list of records, is {type(records)}; {REMEDY}")
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
    """Refuses records of the same name: which of them is meant would be left to chance."""
    seen = set()
    for number, record in enumerate(records):
        token = record["token"]
        if not isinstance(token, str) or token in seen:
            finding = "is there twice" if isinstance(token, str) else "is no text"
            raise TableError(f"{path}: record {number}: token {token!r} {finding}; {REMEDY}")
        seen.add(token)


def _check_indices(path: Path, categories: Sequence[dict]) -> None:
    """Refuses a category table whose lidarseg indices are missing, ambiguous or no uint8."""
    indices = [category.get("index") for category in categories]
    if None in indices:
        raise TableError(
            f"{path}: category {categories[indices.index(None)]['name']!r} has no index; there is "
            "a lidarseg.json beside it: use the category.json that came with nuScenes-lidarseg"
        )
    if not all(isinstance(i, int) and 0 <= i <= 255 for i in indices) or (
        len(set(indices)) < len(indices)
    ):
        raise TableError(
            f"{path}: the categories' lidarseg indices must be different numbers from 0 to 255, "
            f"got {indices}; use the category.json that came with nuScenes-lidarseg"
        )


def check_categories(folder: Path, names: Sequence[str], background: Sequence[str]) -> None:
    """Refuses names of categories that nuScenes doesn't have, beside those in ``background``: they
    would silently be background, and a misspelt class with them."""
    unknown = sorted(set(names) - CATEGORY_NAMES - set(background))
    if unknown:
        raise TableError(
            f"{folder / 'category.json'}: nuScenes has no category {', '.join(unknown)}; rename "
            "it to one of nuScenes', or say that it is background with --background "
            + " ".join(unknown)
        )


def check_lidarseg(dataroot: str | os.PathLike, version: str) -> None:
    """Raises FileNotFoundError if label files are missing that ``lidarseg.json`` names."""
    folder = table_folder(dataroot, version)
    if not has_lidarseg(folder):
        return
    files = Path(dataroot) / "lidarseg" / version
    found = set(os.listdir(files)) if files.is_dir() else set()
    names = [os.path.basename(record["filename"]) for record in read_records(folder, "lidarseg")]
    missing = [name for name in names if name not in found]
    if missing or not files.is_dir():
        example = f", {missing[0]} for one" if missing else ""
        raise FileNotFoundError(
            f"{files}: {len(missing)} of the {len(names)} label files that "
            f"{folder / 'lidarseg.json'} names are missing{example}; unpack nuScenes-lidarseg into "
            "the data root, or remove lidarseg.json to take the foreground from the boxes"
        )


class NuScenesTables(NuScenes):
    """The devkit's tables. A record that is referred to and isn't there, or lacks a field, is a
    :class:`TableError`. The sensor data between the samples, most of it, is left out.

    Args:
        dataroot: nuScenes folder.
        version: folder of the tables, which must be complete, see :func:`check_tables`.

    Raises:
        FileNotFoundError: label files of lidarseg are missing.
        TableError: tables are damaged or don't fit together.
    """

    def __init__(self, dataroot: str | os.PathLike, version: str) -> None:
        check_lidarseg(dataroot, version)
        # Categories of other data sets have no colour of the devkit.
        colours = defaultdict(lambda: (0, 0, 0), get_colormap())
        try:
            super().__init__(version, str(dataroot), verbose=False, colormap=colours)
        except (AssertionError, IndexError, KeyError, TypeError) as error:
            raise TableError(
                f"{table_folder(dataroot, version)}: the tables don't fit together "
                f"({type(error).__name__}: {error}); {REMEDY}"
            ) from error

    @property
    def folder(self) -> Path:
        """Where the tables are."""
        return table_folder(self.dataroot, self.version)

    @cached_property
    def fingerprint(self) -> str:
        """See :func:`tables_fingerprint`."""
        return tables_fingerprint(self.dataroot, self.version)

    def has(self, table_name: str, token: str) -> bool:
        """Whether there is such a table, and such a record in it."""
        return token in self._token2ind.get(table_name, ())

    # The next two are the devkit's own names.
    def __load_table__(self, table_name: str) -> list[dict]:
        records = read_records(self.folder, table_name)
        if table_name == "sample_data":
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
