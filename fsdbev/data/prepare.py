"""Preparation of a nuScenes-format data set: an index a split and the point labels of all samples.

Nothing that is whole and of the same tables is made again, so a killed run goes on where it was.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .arrow_file import read_table
from .index import INDEX_FORMAT, FrameIndex
from .labelling import LabelStatistics, PointLabeller
from .point_labels import label_path, read_label_header, write_point_labels

logger = logging.getLogger(__name__)

#: Wraps an iterable of finished samples: (iterable, total, what is done) -> the same items.
Progress = Callable[[Iterable, int, str], Iterable]
#: Consecutive rows a worker takes at once, so that neighbours share sweeps.
_CHUNK = 16


@dataclass(frozen=True)
class PreparedSplit:
    """Index of a split, and the numbers of its point labels: None without annotations."""

    index: FrameIndex
    statistics: LabelStatistics | None


def default_output(dataroot: str | os.PathLike, version: str) -> Path:
    """Where index and labels go unless said otherwise."""
    return Path(dataroot) / "fsdbev" / version


def index_path(output: str | os.PathLike, split: str) -> Path:
    """Index file of a split."""
    return Path(output) / f"{split}.arrow"


def label_dir(output: str | os.PathLike) -> Path:
    """Folder of the point labels, one file a sample, shared by all splits of a version."""
    return Path(output) / "point_labels"


def prepare_nuscenes(
    *,
    dataroot: str | os.PathLike,
    version: str,
    splits: Sequence[str] | None = None,
    output: str | os.PathLike | None = None,
    workers: int = 0,
    progress: Progress = lambda items, total, what: items,
) -> dict[str, PreparedSplit]:
    """Writes indices and point labels of every split.

    Args:
        dataroot: nuScenes folder, may be read-only if ``output`` is elsewhere.
        version: folder of the tables, e.g. ``v1.0-trainval``.
        splits: official or custom; None takes all that have a scene in this version.
        output: None: ``<dataroot>/fsdbev/<version>``.
        workers: processes for the point labels; 0 works in this one.
        progress: shows how far it is.

    Raises:
        FileNotFoundError, ValueError: tables, sensor files or splits are missing or malformed.
    """
    output = Path(output) if output else default_output(dataroot, version)
    prepared = {}
    for split, index in prepare_indices(dataroot, version, splits, output).items():
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


def prepare_indices(
    dataroot: str | os.PathLike,
    version: str,
    splits: Sequence[str] | None,
    output: Path,
) -> dict[str, FrameIndex]:
    """Indices of the splits; the tables are loaded only if one is missing or of other tables."""
    from . import nuscenes  # loads the devkit, which training does without

    nuscenes.check_tables(dataroot, version)
    splits = splits or nuscenes.available_splits(dataroot, version)
    if not splits:
        raise ValueError(f"no known split has a scene of {version}; name one with --splits")
    source = nuscenes.tables_fingerprint(dataroot, version)
    paths = {split: index_path(output, split) for split in splits}
    missing = [split for split, path in paths.items() if not _is_current(path, source)]
    if missing:
        tables = nuscenes.load_nuscenes(dataroot, version)
        for split in missing:
            nuscenes.build_index(tables, split, paths[split])
    return {split: FrameIndex(path) for split, path in paths.items()}


def _is_current(path: Path, source: str) -> bool:
    try:
        _, header = read_table(path, INDEX_FORMAT)
    except (FileNotFoundError, ValueError):
        return False
    return header.get("source") == source


def label_rows(
    index: FrameIndex, dataroot: str | os.PathLike, labels: Path, workers: int
) -> Iterator[LabelStatistics]:
    """Writes the point labels that are missing; yields each row's numbers when it is done."""
    arguments = (index, str(dataroot), labels)
    if workers < 1:
        labeller = PointLabeller(index, dataroot)
        for row in range(len(index)):
            yield _label_row(labeller, labels, row)
        return
    # Spawned, not forked: the parent may hold gigabytes of tables.
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start_worker, arguments) as pool:
        yield from pool.imap_unordered(_label_row_in_worker, range(len(index)), _CHUNK)


_worker_labeller: PointLabeller
_worker_labels: Path


def _start_worker(index: FrameIndex, dataroot: str, labels: Path) -> None:
    global _worker_labeller, _worker_labels
    _worker_labeller, _worker_labels = PointLabeller(index, dataroot), labels


def _label_row_in_worker(row: int) -> LabelStatistics:
    return _label_row(_worker_labeller, _worker_labels, row)


def _label_row(labeller: PointLabeller, labels: Path, row: int) -> LabelStatistics:
    frame, source = labeller.index[row], labeller.index.info.get("source", "")
    path = label_path(labels, frame.sample_token)
    done = _finished(path, source)
    if done is not None:
        return done
    points, statistics = labeller(row)
    write_point_labels(
        path, points, frame.image_sizes, source=source, statistics=statistics.to_json()
    )
    return statistics


def _finished(path: Path, source: str) -> LabelStatistics | None:
    """Numbers of the whole point labels of this source that stand there, None if none do."""
    try:
        header = read_label_header(path)
        current = header.get("source") == source
        return LabelStatistics.from_json(header["statistics"]) if current else None
    except (FileNotFoundError, ValueError):
        return None
