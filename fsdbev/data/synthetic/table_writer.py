"""Records of nuScenes tables: tokens, links, tables shared by all data sets, and JSON files."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
from pyquaternion import Quaternion

from .catalog import ATTRIBUTES, CATEGORIES, VISIBILITY_LEVELS
from .sensor_rig import CAMERA_SPECS, LIDAR

TABLE_NAMES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "instance",
    "lidarseg",
    "log",
    "map",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
    "visibility",
)

#: Table name -> records.
Tables = dict[str, list[dict]]


def token(*key: object) -> str:
    """Returns 32 hex digits, the format of nuScenes tokens, that depend on the key only."""
    # A hash instead of random tokens: the same options produce the same files.
    text = "/".join(str(part) for part in key)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def empty_tables() -> Tables:
    """Returns all tables without records."""
    return {name: [] for name in TABLE_NAMES}


def common_tables() -> Tables:
    """Returns new tables with the records that are the same for every synthetic data set."""
    tables = empty_tables()
    for index, name in enumerate(CATEGORIES):
        tables["category"].append(
            {"token": token("category", name), "name": name, "description": "", "index": index}
        )
    for name in ATTRIBUTES:
        tables["attribute"].append(
            {"token": token("attribute", name), "name": name, "description": ""}
        )
    for key, level in VISIBILITY_LEVELS.items():
        tables["visibility"].append({"token": key, "level": level, "description": ""})
    for channel in (LIDAR, *(spec.channel for spec in CAMERA_SPECS)):
        modality = "lidar" if channel == LIDAR else "camera"
        tables["sensor"].append(
            {"token": token("sensor", channel), "channel": channel, "modality": modality}
        )
    return tables


def link(records: list[dict]) -> None:
    """Sets ``prev`` and ``next`` of a chain of records in place, "" at the ends as in nuScenes."""
    for record, before, after in zip(
        records, [None, *records[:-1]], [*records[1:], None], strict=True
    ):
        record["prev"] = before["token"] if before else ""
        record["next"] = after["token"] if after else ""


def quaternion(rotation: np.ndarray) -> list[float]:
    """Converts a (3, 3) rotation to a unit quaternion (w, x, y, z)."""
    return [float(v) for v in Quaternion(matrix=rotation, rtol=1e-6, atol=1e-6).normalised]


def write_tables(tables: Tables, folder: str) -> None:
    """Writes one JSON file per table into ``folder``."""
    for name, records in tables.items():
        write_compact_json(records, os.path.join(folder, f"{name}.json"))


def write_compact_json(content: object, path: str) -> None:
    """Writes compact JSON that ends with a line feed."""
    # newline="\n": the same bytes on Windows.
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        json.dump(content, file, separators=(",", ":"))
        file.write("\n")
