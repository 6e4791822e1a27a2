"""Preparation of a nuScenes-format data set: one frame index per split, point labels per sample.

Files that are complete and were made from the same tables are kept, so a killed run continues where
it stopped. The content of the files depends on the data set only: not on interruptions, the number
of workers or the time.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.io.arrow_file import read_table
from fsdbev.data.labels.labeller import LabelStatistics, PointLabeller
from fsdbev.data.labels.point_labels import LABEL_FORMAT, label_path, write_point_labels
from fsdbev.data.parallel import Progress, map_rows, no_progress

from .output_folder import default_output, exclusive_access, index_path, label_dir

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
    output: str | os.PathLike | None = None,
    workers: int = 0,
    background: Sequence[str] = (),
    progress: Progress = no_progress,
) -> dict[str, PreparedSplit]:
    """Writes the missing and outdated frame indexes and point labels of every split.

    Args:
        dataroot: nuScenes folder; may be read-only if ``output`` is outside of it.
        version: folder of the tables, e.g. ``v1.0-trainval``.
        splits: official or custom splits; None means all with a scene in this version.
        output: folder of the files; None means ``<dataroot>/fsdbev/<version>``.
        workers: number of processes that make point labels; 0 makes them in the calling process.
        background: categories unknown to nuScenes to be treated as background.
        progress: wraps the loops over samples and shows their progress.

    Returns:
        Split name -> prepared split, in the order of ``splits``.

    Raises:
        FileNotFoundError, ValueError: tables, sensor files or splits are missing or malformed.
        OSError: ``output`` can't be written, another run is writing there, or a worker was killed.
    """
    # Imported here, because these modules import the devkit: label workers and users of
    # ``label_rows`` import this module and do not need it.
    from . import index_builder, tables

    tables.check_tables(dataroot, version)
    scenes = index_builder.split_scenes(dataroot, version, splits)
    output = Path(output) if output else default_output(dataroot, version)
    prepared = {}
    with exclusive_access(output):
        indexes = _prepare_indexes(dataroot, version, scenes, output, background, progress)
        for split, index in indexes.items():
            statistics = None
            if index.num_annotations:
                rows = label_rows(index, dataroot, label_dir(output), workers)
                rows = progress(rows, len(index), f"point labels, {split}")
                statistics = sum(rows, LabelStatistics.zero())
                logger.info("%s: %s", split, statistics.summary())
            else:
                logger.info("%s has no annotations: no point labels are made", split)
            prepared[split] = PreparedSplit(index, statistics)
    return prepared


def _prepare_indexes(
    dataroot: str | os.PathLike,
    version: str,
    scenes: dict[str, set[str]],
    output: Path,
    background: Sequence[str],
    progress: Progress,
) -> dict[str, FrameIndex]:
    """Returns the index of every split, after building those that are missing or outdated.

    The devkit loads the tables only if an index has to be built.

    Args:
        scenes: split name -> names of its scenes.
    """
    from . import index_builder, tables

    source = tables.tables_fingerprint(dataroot, version)
    paths = {split: index_path(output, split) for split in scenes}
    outdated = [split for split in scenes if not _is_current(paths[split], source, scenes[split])]
    if outdated:
        nusc = index_builder.load_nuscenes(dataroot, version)
        for split in outdated:
            index_builder.build_index(
                nusc, split, paths[split], background=background, progress=progress
            )
        # The tables (gigabytes for trainval) and the devkit's explorer refer to each other: only a
        # collection frees them, and it has to happen before the label workers need memory.
        del nusc
        gc.collect()
    return {split: FrameIndex(path) for split, path in paths.items()}


def _is_current(path: Path, source: str, scenes: set[str]) -> bool:
    """Checks whether an index is complete and was made from these tables and scenes."""
    try:
        index = FrameIndex(path)
    except (FileNotFoundError, ValueError):
        return False  # missing, damaged or of another schema: it is rebuilt
    return index.info.get("source") == source and set(index.scene_names) == scenes


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
        frame, source = index[row], index.info.get("source", "")
        path = label_path(self.labels, frame.sample_token)
        statistics = _current_statistics(path, source, frame.num_cameras)
        if statistics is None:
            points, statistics = self.labeller(row)
            write_point_labels(
                path, points, frame.image_sizes, source=source, statistics=statistics.to_json()
            )
        return statistics


def _current_statistics(path: Path, source: str, num_cameras: int) -> LabelStatistics | None:
    """Returns the statistics stored with a sample's point labels, or None if the file is missing,
    damaged, or made from other tables or for another number of cameras."""
    try:
        # read_table validates the whole table: reading the header would miss a damaged file.
        batch, header = read_table(path, LABEL_FORMAT)
        current = header.get("source") == source and batch.num_rows == num_cameras
        return LabelStatistics.from_json(header["statistics"]) if current else None
    except (FileNotFoundError, KeyError, ValueError):
        return None
