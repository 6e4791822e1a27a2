"""nuScenes tables -> frame index, and the splits of a version.

Any version, split (the official ones and those of ``splits.json``) and rig of the nuScenes format.
The devkit is loaded by this module and ``nuscenes_*`` only.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nuscenes.utils.splits import create_splits_scenes

from fsdbev.data.index.frame_index import write_index
from fsdbev.data.index.records import Annotations, Frame
from fsdbev.data.parallel import Progress, no_progress
from fsdbev.structures import HALVES_OF_TRAIN, OFFICIAL_SPLITS

from .rows import LIDAR_CHANNEL, annotations_of, frame_of, lidarseg_classes
from .tables import (
    REMEDY,
    NuScenesTables,
    TableError,
    check_categories,
    check_tables,
    read_json,
    read_records,
    table_folder,
    tables_size,
)

#: Order of nuScenes' cameras; those of another rig follow by name.
CAMERA_ORDER = (
    "CAM_FRONT_LEFT",
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_LEFT",
    "CAM_BACK",
    "CAM_BACK_RIGHT",
)
REFERENCE_CHANNEL = "CAM_FRONT"

logger = logging.getLogger(__name__)


def load_nuscenes(dataroot: str | os.PathLike, version: str) -> NuScenesTables:
    """Loads the tables of ``<dataroot>/<version>``, which takes a while and says so.

    Raises:
        FileNotFoundError: a table, or a label file of lidarseg.
        TableError: the tables are damaged or don't fit together.
    """
    check_tables(dataroot, version)
    logger.info(
        "reading %.1f MB of tables in %s (nuScenes trainval: about a minute and up to 13 GB of "
        "memory, once)",
        tables_size(dataroot, version) / 1e6,
        table_folder(dataroot, version),
    )
    return NuScenesTables(dataroot, version)


def split_scenes(
    dataroot: str | os.PathLike, version: str, splits: Sequence[str] | None = None
) -> dict[str, set[str]]:
    """Names of the scenes that each split has in this version. Reads only the scene table.

    Args:
        dataroot, version: where the tables are.
        splits: official or custom ones; None takes all that have a scene here, official ones first.

    Raises:
        TableError: ``scene.json`` or ``splits.json`` is malformed.
        ValueError: a split is unknown or has no scene in this version.
    """
    folder = table_folder(dataroot, version)
    here = {scene["name"] for scene in read_records(folder, "scene")}
    known = _known_splits(folder)
    if splits is None:
        usual = [
            name
            for name, ending in OFFICIAL_SPLITS.items()
            if version.endswith(ending) and name not in HALVES_OF_TRAIN
        ]
        candidates = [*usual, *(name for name in known if name not in OFFICIAL_SPLITS)]
        splits = [name for name in candidates if here & known[name]]
        if not splits:
            raise ValueError(f"no known split has a scene of {folder}; name one with --splits")
    unknown = [name for name in splits if name not in known]
    if unknown:
        raise ValueError(
            f"{version} has no split {unknown[0]!r}, but {', '.join(known)}; any other must be in "
            f"{folder / 'splits.json'}"
        )
    found = {name: here & known[name] for name in splits}
    for name, scenes in found.items():
        if not scenes:
            raise ValueError(f"{folder} holds no scene of split {name!r}")
    return found


def _known_splits(folder: Path) -> dict[str, set[str]]:
    """Scenes of the official splits and of the custom ones in ``splits.json``."""
    path = folder / "splits.json"
    custom = read_json(path) if path.is_file() else {}
    if not isinstance(custom, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for names in custom.values()
    ):
        raise TableError(f"{path}: must hold a list of scene names for every split; {REMEDY}")
    bad = [name for name in custom if os.path.basename(name) != name or not name]
    if bad:
        raise TableError(f"{path}: split {bad[0]!r} names a file, so it can't be empty or a path")
    return {name: set(names) for name, names in {**custom, **create_splits_scenes()}.items()}


def build_index(
    nusc: NuScenesTables,
    split: str,
    path: str | os.PathLike,
    *,
    channels: Sequence[str] | None = None,
    reference_channel: str | None = None,
    background: Sequence[str] = (),
    progress: Progress = no_progress,
) -> int:
    """Writes the index of one split; returns its number of samples.

    Args:
        nusc: loaded tables.
        split: official or custom split name.
        path: the index file.
        channels: cameras to take, in this order; None takes all the version has.
        reference_channel: camera whose ego pose is key ego; None means CAM_FRONT, or the first
            camera of a rig without one.
        background: categories unknown to nuScenes that are to be background.
        progress: shows how far it is.

    Raises:
        TableError: a record is missing, impossible or of an unknown category.
        ValueError: unknown split, or no scene of it in this version.
    """
    names = split_scenes(nusc.dataroot, nusc.version, [split])[split]
    absent = _known_splits(nusc.folder)[split] - names
    if absent:
        logger.warning(
            "%s lacks %d scenes of %s: %s ...", nusc.folder, len(absent), split, min(absent)
        )
    scenes = sorted((s for s in nusc.scene if s["name"] in names), key=lambda s: s["name"])
    check_categories(nusc.folder, [category["name"] for category in nusc.category], background)
    channels = list(channels or camera_channels(nusc))
    if reference_channel is None:
        reference_channel = REFERENCE_CHANNEL if REFERENCE_CHANNEL in channels else channels[0]
    if reference_channel not in channels:
        raise ValueError(f"reference channel {reference_channel!r} is not one of {channels}")
    has_lidarseg = hasattr(nusc, "lidarseg")
    info = {
        "dataset": "nuscenes",
        "dataset_version": nusc.version,
        "split": split,
        "source": nusc.fingerprint,
        "lidarseg_classes": json.dumps(lidarseg_classes(nusc.category) if has_lidarseg else []),
    }
    samples = _samples_of(nusc, scenes)
    bare = sum(not nusc.has("lidarseg", s["data"].get(LIDAR_CHANNEL)) for _, s in samples)
    if bare and nusc.sample_annotation:
        logger.info(
            "%s: %d of %d samples have no lidarseg: foreground from boxes",
            split,
            bare,
            len(samples),
        )
    rows = _rows(nusc, samples, channels, channels.index(reference_channel))
    write_index(path, progress(rows, len(samples), f"index, {split}"), info)
    logger.info("%s: %d samples, %d scenes, cameras %s", path, len(samples), len(scenes), channels)
    return len(samples)


def camera_channels(nusc: NuScenesTables) -> list[str]:
    """Camera channels of a version: nuScenes' order first, others by name."""
    found = {s["channel"] for s in nusc.sensor if s["modality"] == "camera"}
    if not found:
        raise TableError(f"{nusc.folder / 'sensor.json'}: has no camera; {REMEDY}")
    return [c for c in CAMERA_ORDER if c in found] + sorted(found - set(CAMERA_ORDER))


def _samples_of(nusc: NuScenesTables, scenes: Sequence[dict]) -> list[tuple[dict, dict]]:
    """(scene, sample) of all samples, scene by scene in the order of their chains.

    Raises:
        TableError: a chain is broken, runs in a circle or back in time, leaves its scene or misses
            samples.
    """
    counts = Counter(sample["scene_token"] for sample in nusc.sample)
    rows = []
    for scene in scenes:
        where = f"{nusc.folder / 'sample.json'}: {scene['name']}"
        with _reading(where):
            chain = list(_chain(nusc, scene, where))
        if len(chain) != counts[scene["token"]]:
            raise TableError(
                f"{where}: its chain holds {len(chain)} of the scene's {counts[scene['token']]} "
                f"samples; {REMEDY}"
            )
        rows += [(scene, sample) for sample in chain]
    return rows


def _chain(nusc: NuScenesTables, scene: dict, where: str) -> Iterator[dict]:
    """Samples of a scene, each of which names the one before and the one after it."""
    before, token, tokens = None, scene["first_sample_token"], set()
    while token:
        sample = nusc.get("sample", token)
        if token in tokens:
            finding = f"its chain of samples runs back to {token}"
        elif sample["scene_token"] != scene["token"]:
            finding = f"its chain leads to {token}, which belongs to scene {sample['scene_token']}"
        elif sample["prev"] != (before["token"] if before else ""):
            finding = f"prev of sample {token} is {sample['prev']!r}, which is not before it"
        elif before and not sample["timestamp"] > before["timestamp"]:
            finding = f"sample {token} is not later than {before['token']}, which is before it"
        else:
            finding = None
        if finding:
            raise TableError(f"{where}: {finding}; {REMEDY}")
        yield sample
        tokens.add(token)
        before, token = sample, sample["next"]


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Any failure to make sense of records becomes an error that says which records."""
    try:
        yield
    except TableError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise TableError(
            f"{where}: holds what can't be read ({type(error).__name__}: {error}); {REMEDY}"
        ) from error


def _rows(
    nusc: NuScenesTables,
    samples: Sequence[tuple[dict, dict]],
    channels: Sequence[str],
    reference: int,
) -> Iterator[tuple[Frame, Annotations]]:
    for row, (scene, sample) in enumerate(samples):
        neighbours = (row - 1 if sample["prev"] else -1, row + 1 if sample["next"] else -1)
        with _reading(f"{nusc.folder}: the records of sample {sample['token']}"):
            frame = frame_of(
                nusc, scene, sample, channels=channels, reference=reference, neighbours=neighbours
            )
            annotations = annotations_of(nusc, sample, frame.key_ego2global)
        yield frame, annotations
