"""Size and speed of the frame index and of point labels, on made-up data as dense as nuScenes.

Files are read from the page cache, as in training after the first epoch. A worker's memory is what
it has for itself alone (USS): pages of the index that several processes map are not in it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

from fsdbev.data.index import FrameIndex, write_index
from fsdbev.data.labelling import LabelStatistics, PointLabeller
from fsdbev.data.point_labels import label_path, read_point_labels
from fsdbev.data.prepare import label_rows

from . import made_up

MEMORY = Path("/proc/self/smaps_rollup")
CORES = 8
_WORKERS = 2


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    name: str
    value: float
    unit: str

    def __str__(self) -> str:
        number = f"{self.value:,.0f}" if self.value >= 100 else f"{self.value:.3g}"
        return f"{self.name:<58} {number:>10}  {self.unit}".rstrip()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=34_149, help="samples in the index")
    parser.add_argument("--boxes", type=int, default=40, help="objects in a sample")
    parser.add_argument("--cameras", type=int, default=6)
    parser.add_argument("--points", type=int, default=34_720, help="points in a sweep")
    parser.add_argument("--labels", type=int, default=40, help="samples to make labels of")
    parser.add_argument("--start", nargs="+", default=["fork", "spawn"], help="worker processes")
    parser.add_argument("--folder", help="for the made-up files; default: a temporary one")


def run(args: argparse.Namespace) -> None:
    """Makes the data up, measures, prints the table.

    Raises:
        ValueError: there is nothing to measure.
    """
    if min(args.rows, args.labels, args.boxes, args.cameras, args.points) < 1:
        raise ValueError("--rows, --labels, --boxes, --cameras and --points start at 1")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for result in measure_index(Path(folder), args) + measure_labels(Path(folder), args):
            print(result, flush=True)


def measure_index(folder: Path, args: argparse.Namespace) -> list[Result]:
    """Size, time to open, time a row, memory of workers."""
    path = folder / "index.arrow"
    writing = seconds(
        lambda: write_index(path, made_up.samples(args.rows, args.boxes, args.cameras))
    )
    opening = statistics.median(seconds(lambda: FrameIndex(path)) for _ in range(9))
    index = FrameIndex(path)
    rows = np.random.default_rng(0).integers(args.rows, size=2000)
    reading = statistics.median(seconds(lambda row=row: read_row(index, row)) for row in rows)
    results = [
        Result("index: samples", len(index), ""),
        Result("index: boxes", index.num_annotations, ""),
        Result("index: size", path.stat().st_size / 1e6, "MB"),
        Result("index: writing", writing, "s"),
        Result("index: opening", 1e3 * opening, "ms"),
        Result("index: reading a row and its boxes", 1e3 * reading, "ms"),
    ]
    for start in args.start if MEMORY.exists() else ():
        before, added = worker_memory(path, start)
        results += [
            Result(f"worker ({start}): private memory before", before, "MB"),
            Result(f"worker ({start}): added by opening and reading all rows", added, "MB"),
        ]
    return results


def measure_labels(folder: Path, args: argparse.Namespace) -> list[Result]:
    """Speed of making labels on one core, their size, time to read them."""
    count, labels = args.labels, folder / "point_labels"
    samples = list(made_up.samples(count, args.boxes, args.cameras))
    for row, (frame, objects) in enumerate(samples):
        made_up.write_sweep(folder / frame.lidar.path, row, objects, args.points)
    write_index(folder / "labelled.arrow", samples)
    index = FrameIndex(folder / "labelled.arrow")
    PointLabeller(index, folder)(0)  # warm-up
    done: list[LabelStatistics] = []
    making = seconds(lambda: done.extend(label_rows(index, folder, labels, workers=0))) / count
    files = [label_path(labels, frame.sample_token) for frame, _ in samples]
    reading = statistics.median(seconds(lambda path=path: read_labels(path)) for path in files)
    size = statistics.mean(path.stat().st_size for path in files)
    total = sum(done, LabelStatistics.zero())
    return [
        Result("labels: samples", total.samples, ""),
        Result("labels: labelled pixels a sample", total.points.sum() / count, ""),
        Result("labels: making, one core", 1 / making, "samples/s"),
        Result(
            f"labels: making {args.rows:,} samples on {CORES} cores",
            making * args.rows / CORES / 3600,
            "hours",
        ),
        Result("labels: size of a file", size / 1e3, "kB"),
        Result(f"labels: size of {args.rows:,} files", size * args.rows / 1e9, "GB"),
        Result("labels: reading a file", 1e3 * reading, "ms"),
    ]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_row(index: FrameIndex, row: int) -> None:
    """What the mapper asks of a row."""
    index.frame_rows(row, 2)
    _ = index[row], index.annotations(row).boxes


def read_labels(path: Path) -> None:
    for camera in read_point_labels(path):
        camera.select()


class MemoryProbe(Dataset):
    """What loader workers need for an index: each of its items is a step of a worker, and is the
    private memory after it in bytes. Every worker takes all steps."""

    #: Before anything; open and read all rows; and once more, when the other has read them too.
    STEPS = 3

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index: FrameIndex | None = None

    def __len__(self) -> int:
        return self.STEPS * _WORKERS

    def __getitem__(self, item: int) -> int:
        if item // _WORKERS == 1:
            self.index = FrameIndex(self.path)
            for row in range(len(self.index)):
                read_row(self.index, row)
        return private_bytes()


def worker_memory(path: Path, start: str) -> tuple[float, float]:
    """MB a worker has for itself before, and what opening the index and reading all of it adds;
    of two workers the one to which it adds more."""
    loader = DataLoader(
        MemoryProbe(path),
        batch_size=None,
        num_workers=_WORKERS,
        prefetch_factor=1,
        multiprocessing_context=start,
        persistent_workers=True,  # the first to finish keeps its pages while the other measures
    )
    steps = np.array([int(item) for item in loader]).reshape(MemoryProbe.STEPS, _WORKERS)
    before, after = steps[0] / 1e6, steps[-1] / 1e6
    worst = int((after - before).argmax())
    return float(before[worst]), float(after[worst] - before[worst])


def private_bytes() -> int:
    """Memory that this process alone has, bytes."""
    lines = MEMORY.read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
