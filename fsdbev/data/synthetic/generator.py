"""Generation of the data set: scenes in parallel processes, then the tables, written atomically."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from fsdbev.utils.atomic_write import atomic_folder

from .options import SPLITS, SyntheticOptions
from .scene import SceneKey, SceneResult, write_scene
from .sensor_rig import CAMERA_SPECS, LIDAR
from .table_writer import common_tables, token, write_compact_json, write_tables
from .town import write_mask

VERSION = "v1.0-synth"
#: Increased whenever the same options give different files.
FORMAT = 1
#: File that marks a folder as synthetic and records its options.
_MARKER = "synthetic.json"

logger = logging.getLogger(__name__)


def generate(
    out: str, options: SyntheticOptions, *, workers: int = 1, overwrite: bool = False
) -> bool:
    """Writes the data set to the folder ``out``, which appears when the data set is complete.

    Args:
        out: data root to create, in nuScenes format.
        options: content of the data set.
        workers: number of processes. The files do not depend on it.
        overwrite: replace a synthetic data set in ``out``. Other files are never replaced.

    Returns:
        False if ``out`` already contains the data set with these options, True if it was written.

    Raises:
        ValueError: ``workers`` is below 1, or ``out`` contains other files, or a data set with
            different options while ``overwrite`` is false.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    out = os.path.abspath(out)
    if _is_complete(out, options, overwrite):
        logger.info("%s already contains the data set with these options; nothing to do", out)
        return False
    with atomic_folder(out) as folder:
        _make_folders(str(folder))
        _write(str(folder), options, workers)
    return True


def _describe(options: SyntheticOptions) -> dict:
    """Returns the content of the marker file."""
    return {"format": FORMAT, "options": options.as_dict()}


def _is_complete(out: str, options: SyntheticOptions, overwrite: bool) -> bool:
    """Checks whether ``out`` contains the data set and may be kept; raises as ``generate`` does."""
    if not os.path.exists(out) or (os.path.isdir(out) and not os.listdir(out)):
        return False
    marker = os.path.join(out, VERSION, _MARKER)
    if not os.path.isfile(marker):
        raise ValueError(f"{out} exists and is not a synthetic data set; choose another folder")
    if overwrite:
        return False
    with open(marker, encoding="utf-8") as file:
        found = json.load(file)
    # A data set of an earlier version lacks the options that are newer.
    found["options"] = {**SyntheticOptions().as_dict(), **found["options"]}
    if found != _describe(options):
        raise ValueError(
            f"{out} contains a synthetic data set with different options: {found}, requested "
            f"{_describe(options)}; choose another folder, or replace it with --overwrite"
        )
    return True


def _make_folders(root: str) -> None:
    """Creates the folders of tables, maps, lidarseg labels and sensor data."""
    channels = (LIDAR, *(spec.channel for spec in CAMERA_SPECS))
    for name in (VERSION, "maps", f"lidarseg/{VERSION}", *(f"samples/{c}" for c in channels)):
        os.makedirs(os.path.join(root, name))


def _write(root: str, options: SyntheticOptions, workers: int) -> None:
    """Writes all scenes, maps and tables into the folder ``root``."""
    keys = [SceneKey(SPLITS[0], i) for i in range(options.scenes_train)]
    keys += [SceneKey(SPLITS[1], i) for i in range(options.scenes_val)]
    tables = common_tables()
    outlines: dict[str, list[np.ndarray]] = {}
    logs: dict[str, list[str]] = {}
    begin = time.monotonic()
    for done, (key, result) in enumerate(
        zip(keys, _scenes(root, options, keys, workers), strict=True), start=1
    ):
        # Results arrive in the order of the keys, so the tables do not depend on ``workers``.
        for name, records in result.tables.items():
            tables[name].extend(records)
        outlines.setdefault(key.town.name, []).extend(result.outline)
        logs.setdefault(key.town.name, []).append(result.tables["log"][0]["token"])
        remaining = (time.monotonic() - begin) / done * (len(keys) - done)
        logger.info("scene %d of %d written, about %.0f s left", done, len(keys), remaining)
    tables["map"] = [_write_map(root, town, outlines[town], logs[town]) for town in outlines]
    folder = os.path.join(root, VERSION)
    write_tables(tables, folder)
    splits = {split: [key.name for key in keys if key.split == split] for split in SPLITS}
    write_compact_json(splits, os.path.join(folder, "splits.json"))
    write_compact_json(_describe(options), os.path.join(folder, _MARKER))


def _scenes(
    root: str, options: SyntheticOptions, keys: list[SceneKey], workers: int
) -> Iterator[SceneResult]:
    """Writes the sensor files of all scenes; yields the results in the order of ``keys``."""
    write = partial(write_scene, root, VERSION, options)
    if workers == 1 or len(keys) == 1:
        yield from map(write, keys)
        return
    # Spawn instead of fork: a fork of a process with threads can deadlock on copied locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(keys)), mp_context=context) as pool:
        yield from pool.map(write, keys)


def _write_map(root: str, town: str, outline: list[np.ndarray], logs: list[str]) -> dict:
    """Writes the semantic prior of a town; returns its record in the map table."""
    filename = f"maps/{town}.png"
    write_mask(outline, os.path.join(root, filename))
    return {
        "token": token(VERSION, "map", town),
        "log_tokens": logs,
        "category": "semantic_prior",
        "filename": filename,
    }
