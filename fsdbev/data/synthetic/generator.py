"""Generation of the data set: scenes in parallel processes, then the tables, written atomically."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from fsdbev.utils.atomic_write import atomic_folder

from .labelled_images import VERSIONS, image_tables, write_images
from .options import SPLITS, SyntheticOptions
from .scene import SceneKey, write_scene
from .sensor_rig import CAMERA_SPECS, LIDAR
from .table_writer import common_tables, token, write_compact_json, write_tables
from .town import write_mask

VERSION = "v1.0-synth"
#: Format -> folder of the tables with the marker file.
_MARKED_FOLDERS = {"nuscenes": VERSION, "nuimages": VERSIONS[SPLITS[0]]}
#: Increased whenever the same options give different files.
FORMAT = 1
#: File that marks a folder as synthetic and records its options.
MARKER = "synthetic.json"
_CAMERAS = tuple(spec.channel for spec in CAMERA_SPECS)

logger = logging.getLogger(__name__)


def generate(
    out: str, options: SyntheticOptions, *, workers: int = 1, overwrite: bool = False
) -> bool:
    """Writes the data set to the folder ``out``, which appears when the data set is complete.

    Args:
        out: data root to create, in the format of ``options``.
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
        write = _write_images if options.format == "nuimages" else _write
        write(str(folder), options, workers)
    return True


def _describe(options: SyntheticOptions) -> dict:
    """Returns the content of the marker file."""
    return {"format": FORMAT, "options": options.as_dict()}


def _is_complete(out: str, options: SyntheticOptions, overwrite: bool) -> bool:
    """Checks whether ``out`` contains the data set and may be kept; raises as ``generate`` does."""
    if not os.path.exists(out) or (os.path.isdir(out) and not os.listdir(out)):
        return False
    markers = (os.path.join(out, folder, MARKER) for folder in _MARKED_FOLDERS.values())
    marker = next(filter(os.path.isfile, markers), None)
    if marker is None:
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


def _make_folders(root: str, folders: Sequence[str], channels: Sequence[str]) -> None:
    """Creates ``folders`` and the folders of the channels' sensor data."""
    for name in (*folders, *(f"samples/{channel}" for channel in channels)):
        os.makedirs(os.path.join(root, name))


def _keys(options: SyntheticOptions) -> list[SceneKey]:
    keys = [SceneKey(SPLITS[0], i) for i in range(options.scenes_train)]
    return keys + [SceneKey(SPLITS[1], i) for i in range(options.scenes_val)]


def _write_images(root: str, options: SyntheticOptions, workers: int) -> None:
    """Writes the images of all scenes and nuImages' tables of both splits."""
    _make_folders(root, list(VERSIONS.values()), _CAMERAS)
    tables = {split: image_tables() for split in SPLITS}
    keys = _keys(options)
    for key, found in _scenes(partial(write_images, root, options), keys, workers):
        for name, records in found.items():
            tables[key.split][name].extend(records)
    for split, version in VERSIONS.items():
        write_tables(tables[split], os.path.join(root, version))
    _write_marker(root, options)


def _write_marker(root: str, options: SyntheticOptions) -> None:
    path = os.path.join(root, _MARKED_FOLDERS[options.format], MARKER)
    write_compact_json(_describe(options), path)


def _write(root: str, options: SyntheticOptions, workers: int) -> None:
    """Writes all scenes, maps and tables into the folder ``root``."""
    folders = (VERSION, "maps", f"lidarseg/{VERSION}")
    _make_folders(root, folders, (LIDAR, *_CAMERAS))
    keys = _keys(options)
    tables = common_tables()
    outlines: dict[str, list[np.ndarray]] = {}
    logs: dict[str, list[str]] = {}
    write = partial(write_scene, root, VERSION, options)
    for key, result in _scenes(write, keys, workers):
        for name, records in result.tables.items():
            tables[name].extend(records)
        outlines.setdefault(key.town.name, []).extend(result.outline)
        logs.setdefault(key.town.name, []).append(result.tables["log"][0]["token"])
    tables["map"] = [_write_map(root, town, outlines[town], logs[town]) for town in outlines]
    folder = os.path.join(root, VERSION)
    write_tables(tables, folder)
    splits = {split: [key.name for key in keys if key.split == split] for split in SPLITS}
    write_compact_json(splits, os.path.join(folder, "splits.json"))
    _write_marker(root, options)


def _scenes(
    write: Callable[[SceneKey], Any], keys: list[SceneKey], workers: int
) -> Iterator[tuple[SceneKey, Any]]:
    """Writes the sensor files of all scenes; yields keys and results in the order of ``keys``, so
    that the tables do not depend on ``workers``."""
    begin = time.monotonic()
    for done, (key, result) in enumerate(
        zip(keys, _results(write, keys, workers), strict=True), start=1
    ):
        yield key, result
        remaining = (time.monotonic() - begin) / done * (len(keys) - done)
        logger.info("scene %d of %d written, about %.0f s left", done, len(keys), remaining)


def _results(write: Callable[[SceneKey], Any], keys: list[SceneKey], workers: int) -> Iterator[Any]:
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
