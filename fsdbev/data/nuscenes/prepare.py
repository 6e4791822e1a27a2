"""Preparation of a nuScenes-format data set: an index a split and the point labels of all samples.

Nothing that is whole and of the same tables is made again, so a killed run goes on where it was.
The files depend on the data set only: not on interruptions, workers or time.
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
    """Index of a split, and the numbers of its point labels: None without annotations."""

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
    """Writes indices and point labels of every split.

    Args:
        dataroot: nuScenes folder, may be read-only if ``output`` is elsewhere.
        version: folder of the tables, e.g. ``v1.0-trainval``.
        splits: official or custom; None takes all that have a scene in this version.
        output: None: ``<dataroot>/fsdbev/<version>``.
        workers: processes for the point labels; 0 works in this one.
        background: categories unknown to nuScenes that are to be background.
        progress: shows how far it is.

    Raises:
        FileNotFoundError, ValueError: tables, sensor files or splits are missing or malformed.
        OSError: ``output`` can't be written, another run writes there, or a worker was killed.
    """
    from . import index_builder as nuscenes  # load the devkit, which training does without
    from . import tables as nuscenes_tables

    nuscenes_tables.check_tables(dataroot, version)
    scenes = nuscenes.split_scenes(dataroot, version, splits)
    output = Path(output) if output else default_output(dataroot, version)
    prepared = {}
    with exclusive_access(output):
        indices = _prepare_indices(dataroot, version, scenes, output, background, progress)
        for split, index in indices.items():
            statistics = None
            if index.num_annotations:
                done = label_rows(index, dataroot, label_dir(output), workers)
                done = progress(done, len(index), f"point labels, {split}")
                statistics = sum(done, LabelStatistics.zero())
                logger.info("%s: %s", split, statistics.summary())
            else:
                logger.info("%s has no annotations: no point labels", split)
            prepared[split] = PreparedSplit(index, statistics)
    return prepared


def _prepare_indices(
    dataroot: str | os.PathLike,
    version: str,
    scenes: dict[str, set[str]],
    output: Path,
    background: Sequence[str],
    progress: Progress,
) -> dict[str, FrameIndex]:
    """Indices of the splits whose scenes are given by name. The tables are loaded only if one is
    missing, of other tables or of other scenes."""
    from . import index_builder as nuscenes
    from . import tables as nuscenes_tables

    source = nuscenes_tables.tables_fingerprint(dataroot, version)
    paths = {split: index_path(output, split) for split in scenes}
    missing = [split for split in scenes if not _is_current(paths[split], source, scenes[split])]
    if missing:
        tables = nuscenes.load_nuscenes(dataroot, version)
        for split in missing:
            nuscenes.build_index(
                tables, split, paths[split], background=background, progress=progress
            )
        del tables
        gc.collect()  # they refer to themselves
    return {split: FrameIndex(path) for split, path in paths.items()}


def _is_current(path: Path, source: str, scenes: set[str]) -> bool:
    try:
        index = FrameIndex(path)
    except (FileNotFoundError, ValueError):
        return False
    return index.info.get("source") == source and set(index.scene_names) == scenes


def label_rows(
    index: FrameIndex, dataroot: str | os.PathLike, labels: str | os.PathLike, workers: int
) -> Iterator[LabelStatistics]:
    """Writes the point labels that are missing; yields each row's numbers when it is done.

    Raises:
        FileNotFoundError, ValueError: a point or label file is missing or malformed.
        OSError: labels can't be written, or a worker was killed.
    """
    return map_rows(_RowLabeller, (index, str(dataroot), Path(labels)), len(index), workers)


class _RowLabeller:
    """Makes sure that a row's point labels stand on disk."""

    def __init__(self, index: FrameIndex, dataroot: str, labels: Path) -> None:
        self.labeller = PointLabeller(index, dataroot)
        self.labels = labels

    def __call__(self, row: int) -> LabelStatistics:
        index = self.labeller.index
        frame, source = index[row], index.info.get("source", "")
        path = label_path(self.labels, frame.sample_token)
        done = _finished(path, source, frame.num_cameras)
        if done is not None:
            return done
        points, statistics = self.labeller(row)
        write_point_labels(
            path, points, frame.image_sizes, source=source, statistics=statistics.to_json()
        )
        return statistics


def _finished(path: Path, source: str, num_cameras: int) -> LabelStatistics | None:
    """Numbers of the point labels there; None if they aren't whole, of this source and rig."""
    try:
        batch, header = read_table(path, LABEL_FORMAT)
        current = header.get("source") == source and batch.num_rows == num_cameras
        return LabelStatistics.from_json(header["statistics"]) if current else None
    except (FileNotFoundError, KeyError, ValueError):
        return None
