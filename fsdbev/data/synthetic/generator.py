"""Generates the data set: scenes in parallel processes, tables at the end, all or nothing."""

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
from .table_writer import common_tables, token, write_json, write_tables
from .town import write_mask

VERSION = "v1.0-synth"
#: Raised whenever the same options give other files.
FORMAT = 1
_MARKER = "synthetic.json"

logger = logging.getLogger(__name__)


def generate(
    out: str, options: SyntheticOptions, *, workers: int = 1, overwrite: bool = False
) -> bool:
    """Writes the data set to the folder ``out``, which appears only when it is complete.

    Returns False when ``out`` already holds the set of these options. Raises ValueError when it
    holds anything else: with ``overwrite`` another synthetic set is replaced, other files never.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    out = os.path.abspath(out)
    if _is_complete(out, options, overwrite):
        logger.info("%s is complete and has these options; nothing to do", out)
        return False
    with atomic_folder(out) as folder:
        _make_folders(str(folder))
        _write(str(folder), options, workers)
    return True


def _describe(options: SyntheticOptions) -> dict:
    return {"format": FORMAT, "options": options.as_dict()}


def _is_complete(out: str, options: SyntheticOptions, overwrite: bool) -> bool:
    """Whether nothing is left to do. Errors: see ``generate``."""
    if not os.path.exists(out) or (os.path.isdir(out) and not os.listdir(out)):
        return False
    marker = os.path.join(out, VERSION, _MARKER)
    if not os.path.isfile(marker):
        raise ValueError(f"{out} exists and is no synthetic data set; name another folder")
    with open(marker, encoding="utf-8") as file:
        found = json.load(file)
    if overwrite:
        return False
    if found != _describe(options):
        raise ValueError(
            f"{out} holds a synthetic data set of other options: {found}, asked for"
            f" {_describe(options)}. Name another folder, or overwrite it (--overwrite)"
        )
    return True


def _make_folders(root: str) -> None:
    channels = (LIDAR, *(spec.channel for spec in CAMERA_SPECS))
    for name in (VERSION, "maps", f"lidarseg/{VERSION}", *(f"samples/{c}" for c in channels)):
        os.makedirs(os.path.join(root, name))


def _write(root: str, options: SyntheticOptions, workers: int) -> None:
    keys = [SceneKey(SPLITS[0], i) for i in range(options.scenes_train)]
    keys += [SceneKey(SPLITS[1], i) for i in range(options.scenes_val)]
    tables = common_tables()
    outlines: dict[str, list[np.ndarray]] = {}
    logs: dict[str, list[str]] = {}
    begin = time.monotonic()
    for done, (key, result) in enumerate(
        zip(keys, _scenes(root, options, keys, workers), strict=True), start=1
    ):
        for name, records in result.tables.items():
            tables[name].extend(records)
        outlines.setdefault(key.town.name, []).extend(result.outline)
        logs.setdefault(key.town.name, []).append(result.tables["log"][0]["token"])
        left = (time.monotonic() - begin) / done * (len(keys) - done)
        logger.info("scene %d of %d, about %.0f s left", done, len(keys), left)
    tables["map"] = [_write_map(root, town, outlines[town], logs[town]) for town in outlines]
    folder = os.path.join(root, VERSION)
    write_tables(tables, folder)
    splits = {split: [key.name for key in keys if key.split == split] for split in SPLITS}
    write_json(splits, os.path.join(folder, "splits.json"))
    write_json(_describe(options), os.path.join(folder, _MARKER))


def _scenes(
    root: str, options: SyntheticOptions, keys: list[SceneKey], workers: int
) -> Iterator[SceneResult]:
    work = partial(write_scene, root, VERSION, options)
    if workers == 1 or len(keys) == 1:
        yield from map(work, keys)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(keys)), mp_context=context) as pool:
        yield from pool.map(work, keys)


def _write_map(root: str, town: str, outline: list[np.ndarray], logs: list[str]) -> dict:
    filename = f"maps/{town}.png"
    write_mask(outline, os.path.join(root, filename))
    return {
        "token": token(VERSION, "map", town),
        "log_tokens": logs,
        "category": "semantic_prior",
        "filename": filename,
    }
