"""Preparation of a nuScenes-format data set: one frame index per split, point labels per sample.

Files that are complete and were made from the same tables are kept, so a killed run continues where
it stopped. The content of the files depends on the data set only: not on interruptions, the number
of workers or the time.
"""

from __future__ import annotations

import gc
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fsdbev.data.image_checks import add_image_crcs
from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.index.records import Frame
from fsdbev.data.io.arrow_file import read_table
from fsdbev.data.labels.labeller import LabelStatistics, PointLabeller
from fsdbev.data.labels.point_labels import (
    LABEL_FORMAT,
    has_classes,
    label_path,
    read_label_header,
    write_point_labels,
)
from fsdbev.data.parallel import Progress, map_rows, no_progress
from fsdbev.structures import NUSCENES_CLASSES, ClassSet
from fsdbev.utils.atomic_write import temporary_path

from .output_folder import (
    default_output,
    exclusive_access,
    index_path,
    label_dir,
    prepared_indexes,
)
from .sensor_files import files_of_index, missing_files, of_scene, skipped_scenes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedSplit:
    """Frame index of a split and the statistics of its point labels.

    Attributes:
        index: the opened index.
        statistics: sum over all samples; None for a split without annotations, which has no labels.
    """

    index: FrameIndex
    statistics: LabelStatistics | None


def prepare_nuscenes(
    *,
    dataroot: str | os.PathLike,
    version: str,
    splits: Sequence[str] | None = None,
    scenes: Sequence[str] | None = None,
    split_name: str | None = None,
    output: str | os.PathLike | None = None,
    classes: ClassSet = NUSCENES_CLASSES,
    background: Sequence[str] = (),
    balance: float | None = None,
    skip_incomplete: bool = False,
    workers: int = 0,
    progress: Progress = no_progress,
) -> dict[str, PreparedSplit]:
    """Writes the missing and outdated frame indexes and point labels of every split.

    Args:
        dataroot: nuScenes folder; may be read-only if ``output`` is outside of it.
        version: folder of the tables, e.g. ``v1.0-trainval``.
        splits: official or custom splits, or earlier ``split_name``; None means all with a scene in
            this version.
        scenes: scenes of a single split instead, which is called ``split_name``.
        split_name: name of the split of ``scenes``.
        output: folder of the files; None means ``<dataroot>/fsdbev/<version>``.
        classes: classes of all indexes and labels in ``output``.
        background: categories of neither nuScenes nor the classes to be treated as background.
        balance: of the rectification of distorted images, see
            :func:`fsdbev.data.io.rectify.rectified_intrinsics`; None keeps the focal lengths.
        skip_incomplete: leaves out scenes of which a file is missing (:func:`skipped_scenes`);
            otherwise a missing file is an error.
        workers: number of processes that decode images and make point labels; 0 does both in the
            calling process.
        progress: wraps the loops over samples and shows their progress.

    Returns:
        Split name -> prepared split, in the order of ``splits``.

    Raises:
        FileNotFoundError: tables or sensor files are missing.
        ValueError: tables, sensor files, splits or classes are malformed or don't fit together,
            images are damaged, or ``output`` has files of other classes.
        OSError: ``output`` can't be written, another run is writing there, or a worker was killed.
    """
    # Imported here, because these modules import the devkit: label workers and users of
    # ``label_rows`` import this module and do not need it.
    from . import tables
    from .splits import choose_splits

    tables.check_tables(dataroot, version)
    tables.check_categories(tables.table_folder(dataroot, version), classes, background)
    tables.check_balance(tables.table_folder(dataroot, version), balance)
    output = Path(output) if output else default_output(dataroot, version)
    found = prepared_indexes(output)
    chosen = choose_splits(dataroot, version, splits, scenes, split_name, found)
    _check_same_classes(classes, found, label_dir(output))
    prepared = {}
    with exclusive_access(output):
        options = {"classes": classes, "balance": balance, "skip_incomplete": skip_incomplete}
        options |= {"workers": workers, "progress": progress}
        indexes = _prepare_indexes(dataroot, version, chosen, found, output, **options)
        for split, index in indexes.items():
            statistics = None
            if gaps := index.gap_report():
                logger.warning("%s: %s", split, gaps)
            if index.num_annotations:
                rows = label_rows(index, dataroot, label_dir(output), workers)
                rows = progress(rows, len(index), f"point labels, {split}")
                statistics = sum(rows, LabelStatistics.zero(len(classes)))
                logger.info("%s: %s", split, statistics.summary())
            else:
                logger.info("%s has no annotations: no point labels are made", split)
            prepared[split] = PreparedSplit(index, statistics)
    return prepared


def _check_same_classes(classes: ClassSet, indexes: Mapping[str, FrameIndex], labels: Path) -> None:
    """Checks that the files of an output folder have the classes of this preparation.

    Raises:
        ValueError: an index or the first file of point labels has other classes.
    """
    own = "this preparation (--classes)"
    remedy = "pass the folder's classes, or choose another folder with --output"
    for index in indexes.values():
        classes.check_labels(index.classes, own=own, others=index.path, remedy=remedy)
    path = min(labels.glob("*.arrow"), default=None)
    try:
        header = read_label_header(path) if path else None
    except (FileNotFoundError, ValueError):
        return  # damaged or of another version: it is made again
    if header and not has_classes(header, classes):
        raise ValueError(
            f"{path} has the classes {header.get('classes')}, but {own} has "
            f"{json.dumps(classes.label_rules)}; {remedy}"
        )


def _prepare_indexes(
    dataroot: str | os.PathLike,
    version: str,
    scenes: Mapping[str, set[str]],
    found: Mapping[str, FrameIndex],
    output: Path,
    *,
    classes: ClassSet,
    balance: float | None,
    skip_incomplete: bool,
    workers: int,
    progress: Progress,
) -> dict[str, FrameIndex]:
    """Returns the index of every split, after building those that are missing or outdated.

    The devkit loads the tables only if an index has to be built.

    Args:
        scenes: split name -> names of its scenes.
        found: indexes of the output folder.
    """
    from . import index_builder, tables

    source = tables.source_of(tables.tables_fingerprint(dataroot, version), balance)
    current = {
        split
        for split, index in found.items()
        if index.info.get("source") == source
        and index.classes == classes
        and _has_scenes(index, scenes.get(split, set()), dataroot, skip_incomplete)
    }
    outdated = [split for split in scenes if split not in current]
    with ExitStack() as stack:
        paths = {split: index_path(output, split) for split in outdated}
        unchecked = {
            split: stack.enter_context(temporary_path(path)) for split, path in paths.items()
        }
        nusc = index_builder.load_nuscenes(dataroot, version) if outdated else None
        for split, path in unchecked.items():
            index_builder.build_index(
                nusc,
                split,
                path,
                scenes=scenes[split],
                classes=classes,
                balance=balance,
                skip_incomplete=skip_incomplete,
                progress=progress,
            )
        # The tables (gigabytes for trainval) and the devkit's explorer refer to each other: only a
        # collection frees them, and it has to happen before the workers need memory.
        del nusc
        gc.collect()
        for split, path in unchecked.items():
            add_image_crcs(path, dataroot, workers, progress, output=paths[split])
    return {split: FrameIndex(index_path(output, split)) for split in scenes}


def _has_scenes(
    index: FrameIndex, scenes: set[str], dataroot: str | os.PathLike, skip_incomplete: bool
) -> bool:
    """Checks whether an index has these scenes, with ``skip_incomplete`` those with all files."""
    if not skip_incomplete:
        return set(index.scene_names) == scenes
    skipped = skipped_scenes(index)
    return (
        {*index.scene_names, *skipped} == scenes
        and missing_files(skipped.items(), dataroot).keys() == skipped.keys()
        and not missing_files(files_of_index(index), dataroot)
    )


def label_rows(
    index: FrameIndex, dataroot: str | os.PathLike, labels: str | os.PathLike, workers: int
) -> Iterator[LabelStatistics]:
    """Writes the missing and outdated point labels of an index; yields the statistics of each row.

    Args:
        index: samples with annotations.
        dataroot: folder that the index's paths are relative to.
        labels: folder of the label files.
        workers: number of processes; 0 works in the calling process.

    Raises:
        FileNotFoundError, ValueError: a sweep or lidarseg file is missing or malformed.
        OSError: labels can't be written, or a worker was killed.
    """
    return map_rows(_RowLabeller, (index, str(dataroot), Path(labels)), len(index), workers)


class _RowLabeller:
    """Writes the point labels of a row unless current ones exist; returns their statistics."""

    def __init__(self, index: FrameIndex, dataroot: str, labels: Path) -> None:
        self.labeller = PointLabeller(index, dataroot)
        self.labels = labels

    def __call__(self, row: int) -> LabelStatistics:
        index = self.labeller.index
        frame = index[row]
        path = label_path(self.labels, frame.sample_token)
        statistics = _current_statistics(path, index, frame)
        if statistics is None:
            try:
                points, statistics = self.labeller(row)
            except FileNotFoundError as error:
                raise of_scene(str(error), frame.scene_name) from error
            write_point_labels(
                path,
                points,
                frame,
                source=index.info.get("source", ""),
                classes=index.classes,
                statistics=statistics.to_json(),
            )
        return statistics


def _current_statistics(path: Path, index: FrameIndex, frame: Frame) -> LabelStatistics | None:
    """Returns the statistics stored with a sample's point labels, or None if the file is missing,
    damaged, or made from other tables, for other classes or for other cameras."""
    try:
        # read_table validates the whole table: reading the header would miss a damaged file.
        _, header = read_table(path, LABEL_FORMAT)
        current = (
            header.get("source") == index.info.get("source")
            and has_classes(header, index.classes)
            and json.loads(header["channels"]) == list(frame.channels)
        )
        num_classes = len(index.classes)
        return LabelStatistics.from_json(header["statistics"], num_classes) if current else None
    except (FileNotFoundError, KeyError, ValueError):
        return None
