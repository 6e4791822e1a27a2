"""Frame indexes from nuScenes tables, and the splits of a version.

Supports every version and camera rig in nuScenes format, the official splits, and custom splits
listed in ``splits.json`` in the folder of the tables. Importing this module imports the devkit.
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
from fsdbev.structures import OFFICIAL_SPLITS, TRAIN_HALVES

from .rows import LIDAR_CHANNEL, lidarseg_classes, read_annotations, read_frame
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

#: Order of the nuScenes cameras (docs/model.md, "Frames of reference").
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
    """Loads the tables of ``<dataroot>/<version>`` with the devkit and logs their size.

    Raises:
        FileNotFoundError: a table or a lidarseg label file is missing.
        TableError: the tables are damaged or inconsistent.
    """
    check_tables(dataroot, version)
    logger.info(
        "reading %.1f MB of tables in %s (nuScenes trainval takes about a minute and up to 13 GB "
        "of memory; later runs skip this step)",
        tables_size(dataroot, version) / 1e6,
        table_folder(dataroot, version),
    )
    return NuScenesTables(dataroot, version)


def split_scenes(
    dataroot: str | os.PathLike, version: str, splits: Sequence[str] | None = None
) -> dict[str, set[str]]:
    """Returns the scenes of each split that are present in this version.

    Reads the scene table and ``splits.json`` only.

    Args:
        dataroot, version: nuScenes folder, and the folder of the tables in it.
        splits: official or custom splits; None means all with a scene in this version, official
            splits first.

    Returns:
        Split name -> scene names.

    Raises:
        TableError: ``scene.json`` or ``splits.json`` is malformed.
        ValueError: a split is unknown or has no scene in this version.
    """
    folder = table_folder(dataroot, version)
    present = {scene["name"] for scene in read_records(folder, "scene")}
    known = _known_splits(folder)
    if splits is None:
        # Without the devkit's halves of train: their scenes are in train already.
        official = [
            name
            for name, ending in OFFICIAL_SPLITS.items()
            if version.endswith(ending) and name not in TRAIN_HALVES
        ]
        candidates = [*official, *(name for name in known if name not in OFFICIAL_SPLITS)]
        splits = [name for name in candidates if present & known[name]]
        if not splits:
            raise ValueError(
                f"no known split has a scene of {folder}; choose a version with --version, or list "
                f"the scenes of a split in {folder / 'splits.json'}"
            )
    unknown = [name for name in splits if name not in known]
    if unknown:
        raise ValueError(
            f"{version} has no split {unknown[0]!r}, only {', '.join(known)}; list the scenes of "
            f"another split in {folder / 'splits.json'}"
        )
    found = {name: present & known[name] for name in splits}
    for name, scenes in found.items():
        if not scenes:
            raise ValueError(f"{folder} has no scene of split {name!r}; change --splits")
    return found


def _known_splits(folder: Path) -> dict[str, set[str]]:
    """Returns the scene names of the official splits and of the custom ones in ``splits.json``."""
    path = folder / "splits.json"
    custom = read_json(path) if path.is_file() else {}
    if not isinstance(custom, dict) or not all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for names in custom.values()
    ):
        raise TableError(f"{path}: must map each split to a list of scene names; {REMEDY}")
    invalid = [name for name in custom if os.path.basename(name) != name or not name]
    if invalid:
        raise TableError(
            f"{path}: split {invalid[0]!r} is used as a file name: it must not be empty or a path"
        )
    # Official splits win: a custom split must not change the meaning of an official name.
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
    """Writes the frame index of one split; returns its number of samples.

    Scenes are sorted by name, samples by time.

    Args:
        nusc: loaded tables.
        split: official or custom split name.
        path: index file to write.
        channels: cameras of the index, in this order; None means all cameras of the version.
        reference_channel: camera whose ego pose defines the key ego frame (docs/model.md, "Frames
            of reference"); None means CAM_FRONT, or the first camera of a rig without CAM_FRONT.
        background: categories unknown to nuScenes to be treated as background.
        progress: wraps the loop over samples and shows its progress.

    Raises:
        TableError: a record is missing or malformed, or a category is unknown.
        ValueError: the split is unknown or has no scene in this version, or the reference camera
            is not among the cameras.
    """
    names = split_scenes(nusc.dataroot, nusc.version, [split])[split]
    missing = _known_splits(nusc.folder)[split] - names
    if missing:
        counts = (len(missing), split, min(missing))
        logger.warning("%s lacks %d scenes of split %s, for example %s", nusc.folder, *counts)
    scenes = sorted((s for s in nusc.scene if s["name"] in names), key=lambda s: s["name"])
    check_categories(nusc.folder, [category["name"] for category in nusc.category], background)
    channels = list(channels or camera_channels(nusc))
    if reference_channel is None:
        reference_channel = REFERENCE_CHANNEL if REFERENCE_CHANNEL in channels else channels[0]
    if reference_channel not in channels:
        raise ValueError(f"reference channel {reference_channel!r} must be one of {channels}")
    has_lidarseg = hasattr(nusc, "lidarseg")
    info = {
        "dataset": "nuscenes",
        "dataset_version": nusc.version,
        "split": split,
        "source": nusc.fingerprint,
        "lidarseg_classes": json.dumps(lidarseg_classes(nusc.category) if has_lidarseg else []),
    }
    samples = _samples_of(nusc, scenes)
    unlabelled = sum(not nusc.has("lidarseg", s["data"].get(LIDAR_CHANNEL)) for _, s in samples)
    if unlabelled and nusc.sample_annotation:
        text = "%s: %d of %d samples have no lidarseg labels: points inside boxes are foreground"
        logger.info(text, split, unlabelled, len(samples))
    rows = _rows(nusc, samples, channels, channels.index(reference_channel))
    write_index(path, progress(rows, len(samples), f"index, {split}"), info)
    logger.info("%s: %d samples, %d scenes, cameras %s", path, len(samples), len(scenes), channels)
    return len(samples)


def camera_channels(nusc: NuScenesTables) -> list[str]:
    """Returns the camera channels of a version: nuScenes cameras in ``CAMERA_ORDER``, then others
    sorted by name.

    Raises:
        TableError: the sensor table has no camera.
    """
    found = {s["channel"] for s in nusc.sensor if s["modality"] == "camera"}
    if not found:
        raise TableError(f"{nusc.folder / 'sensor.json'}: has no camera; {REMEDY}")
    return [c for c in CAMERA_ORDER if c in found] + sorted(found - set(CAMERA_ORDER))


def _samples_of(nusc: NuScenesTables, scenes: Sequence[dict]) -> list[tuple[dict, dict]]:
    """Returns (scene, sample) of all samples, scene by scene, in the order of the sample chain.

    Raises:
        TableError: a chain is broken or cyclic, is not in order of time, leaves its scene or lacks
            samples.
    """
    counts = Counter(sample["scene_token"] for sample in nusc.sample)
    rows = []
    for scene in scenes:
        where = f"{nusc.folder / 'sample.json'}: {scene['name']}"
        with _naming_records(where):
            chain = list(_chain(nusc, scene, where))
        # Samples that no link leads to would be lost silently.
        if len(chain) != counts[scene["token"]]:
            raise TableError(
                f"{where}: its chain has {len(chain)} of the scene's {counts[scene['token']]} "
                f"samples; {REMEDY}"
            )
        rows += [(scene, sample) for sample in chain]
    return rows


def _chain(nusc: NuScenesTables, scene: dict, where: str) -> Iterator[dict]:
    """Follows ``next`` from a scene's first sample; checks ``prev``, scene and order of time."""
    previous, token, visited = None, scene["first_sample_token"], set()
    while token:
        sample = nusc.get("sample", token)
        expected = previous["token"] if previous else ""
        if token in visited:
            defect = f"its chain of samples returns to {token}"
        elif sample["scene_token"] != scene["token"]:
            defect = f"its chain leads to {token}, which belongs to scene {sample['scene_token']}"
        elif sample["prev"] != expected:
            defect = f"prev of sample {token} is {sample['prev']!r}, expected {expected!r}"
        elif previous and not sample["timestamp"] > previous["timestamp"]:
            defect = f"sample {token} is not later than {expected}, which precedes it in the chain"
        else:
            defect = None
        if defect:
            raise TableError(f"{where}: {defect}; {REMEDY}")
        yield sample
        visited.add(token)
        previous, token = sample, sample["next"]


@contextmanager
def _naming_records(where: str) -> Iterator[None]:
    """Turns errors caused by malformed fields into a TableError that names the records."""
    try:
        yield
    except TableError:
        raise
    # FIELDS lists which fields exist, not their types: a text in place of a number, for example,
    # fails somewhere in NumPy or the devkit.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise TableError(
            f"{where}: malformed record ({type(error).__name__}: {error}); {REMEDY}"
        ) from error


def _rows(
    nusc: NuScenesTables,
    samples: Sequence[tuple[dict, dict]],
    channels: Sequence[str],
    reference: int,
) -> Iterator[tuple[Frame, Annotations]]:
    """Yields the index rows of (scene, sample) pairs; ``reference`` is the reference camera."""
    for row, (scene, sample) in enumerate(samples):
        # The rows of a scene are consecutive and in the order of its chain.
        neighbours = (row - 1 if sample["prev"] else -1, row + 1 if sample["next"] else -1)
        with _naming_records(f"{nusc.folder}: sample {sample['token']}"):
            frame = read_frame(
                nusc, scene, sample, channels=channels, reference=reference, neighbours=neighbours
            )
            annotations = read_annotations(nusc, sample, frame.key_ego2global)
        yield frame, annotations
