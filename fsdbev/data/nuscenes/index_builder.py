"""Frame indexes from nuScenes tables.

Supports every version and camera rig in nuScenes format. Importing this module imports the devkit.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from fsdbev.data.index.frame_index import write_index
from fsdbev.data.index.records import Annotations, Frame
from fsdbev.data.parallel import Progress, no_progress
from fsdbev.structures import NUSCENES_CLASSES, ClassSet

from .rows import LIDAR_CHANNEL, lidarseg_classes, read_annotations, read_frame
from .sensor_files import SKIPPED_FIELD, check_complete, missing_files
from .splits import known_splits, split_scenes
from .tables import (
    REMEDY,
    NuScenesTables,
    TableError,
    check_tables,
    has_lidarseg,
    source_of,
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


def build_index(
    nusc: NuScenesTables,
    split: str,
    path: str | os.PathLike,
    *,
    scenes: Collection[str] | None = None,
    classes: ClassSet = NUSCENES_CLASSES,
    balance: float | None = None,
    skip_incomplete: bool = False,
    channels: Sequence[str] | None = None,
    reference_channel: str | None = None,
    progress: Progress = no_progress,
) -> int:
    """Writes the frame index of one split; returns its number of samples.

    Scenes are sorted by name, samples by time.

    Args:
        nusc: loaded tables.
        split: name of the split.
        path: index file to write.
        scenes: its scenes; None means those of an official split or of ``splits.json``.
        classes: classes of the index; objects of categories that belong to none are left out.
        balance: of the rectification of distorted images, see
            :func:`fsdbev.data.io.rectify.rectified_intrinsics`.
        skip_incomplete: leaves out scenes of which a file is missing, and names them in the header
            of the index; otherwise a missing file is an error.
        channels: cameras of the index, in this order; None means all cameras of the version.
        reference_channel: camera whose ego pose defines the key ego frame (docs/model.md, "Frames
            of reference"); None means CAM_FRONT, or the first camera of a rig without CAM_FRONT.
        progress: wraps the loop over samples and shows its progress.

    Raises:
        FileNotFoundError: sensor files are missing; with ``skip_incomplete`` in every scene.
        TableError: a record is missing or malformed.
        ValueError: the split is unknown or has no scene in this version, or the reference camera
            is not among the cameras.
    """
    names = set(scenes or split_scenes(nusc.dataroot, nusc.version, [split])[split])
    absent = known_splits(nusc.folder).get(split, names) - names
    if absent:
        counts = (len(absent), split, min(absent))
        logger.warning("%s lacks %d scenes of split %s, for example %s", nusc.folder, *counts)
    records = sorted((s for s in nusc.scene if s["name"] in names), key=lambda s: s["name"])
    channels = list(channels or camera_channels(nusc))
    reference = _reference(channels, reference_channel)
    samples = _samples_of(nusc, records)
    missing = missing_files(_files(nusc, samples, channels), nusc.dataroot)
    if not skip_incomplete or len(missing) == len(records):
        check_complete(missing, split, nusc.dataroot)
    samples = [(scene, sample) for scene, sample in samples if scene["name"] not in missing]
    class_ids = lidarseg_classes(nusc.category, classes) if has_lidarseg(nusc.folder) else []
    info = {
        "dataset": "nuscenes",
        "dataset_version": nusc.version,
        "split": split,
        "source": source_of(nusc.fingerprint, balance),
        "lidarseg_classes": json.dumps(class_ids),
        SKIPPED_FIELD: json.dumps({scene: paths[0] for scene, paths in missing.items()}),
    }
    unlabelled = sum(not nusc.has("lidarseg", s["data"].get(LIDAR_CHANNEL)) for _, s in samples)
    if unlabelled and nusc.sample_annotation:
        text = "%s: %d of %d samples have no lidarseg labels: points inside boxes are foreground"
        logger.info(text, split, unlabelled, len(samples))
    rows = _rows(nusc, samples, channels, reference, classes, balance)
    write_index(path, progress(rows, len(samples), f"index, {split}"), classes, info)
    text = "%s: %d samples, %d scenes, cameras %s"
    logger.info(text, split, len(samples), len(records) - len(missing), channels)
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


def _reference(channels: Sequence[str], reference_channel: str | None) -> int:
    """Returns the index of the reference camera, see :func:`build_index`."""
    if reference_channel is None:
        return channels.index(REFERENCE_CHANNEL) if REFERENCE_CHANNEL in channels else 0
    if reference_channel not in channels:
        raise ValueError(f"reference channel {reference_channel!r} must be one of {channels}")
    return channels.index(reference_channel)


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


def _files(
    nusc: NuScenesTables, samples: Sequence[tuple[dict, dict]], channels: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yields (scene name, path) of the files that training and point labels of (scene, sample)
    pairs read; without annotations, and so without point labels, these are the images only."""
    channels = [*channels, *([LIDAR_CHANNEL] if nusc.sample_annotation else [])]
    for scene, sample in samples:
        with _naming_records(f"{nusc.folder}: sample {sample['token']}"):
            tokens = [sample["data"][channel] for channel in channels if channel in sample["data"]]
            for token in tokens:
                yield scene["name"], os.fspath(nusc.get("sample_data", token)["filename"])
                if nusc.has("lidarseg", token):
                    yield scene["name"], os.fspath(nusc.get("lidarseg", token)["filename"])


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
    classes: ClassSet,
    balance: float | None,
) -> Iterator[tuple[Frame, Annotations]]:
    """Yields the index rows of (scene, sample) pairs; ``reference`` is the reference camera."""
    for row, (scene, sample) in enumerate(samples):
        # The rows of a scene are consecutive and in the order of its chain.
        neighbours = (row - 1 if sample["prev"] else -1, row + 1 if sample["next"] else -1)
        with _naming_records(f"{nusc.folder}: sample {sample['token']}"):
            frame = read_frame(
                nusc,
                scene,
                sample,
                channels=channels,
                reference=reference,
                neighbours=neighbours,
                balance=balance,
            )
            annotations = read_annotations(nusc, sample, frame.key_ego2global, classes)
        yield frame, annotations
