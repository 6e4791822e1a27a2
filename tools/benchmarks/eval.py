"""Time and memory of nuScenes' detection metrics: the devkit's against ours.

Both go from a submission to the summary: the devkit from its file, ours from the boxes that the
evaluator has in memory. "truth read" includes making arrays of the true boxes, as an evaluator's
first evaluation does, "truth kept" is every later one. Summaries are compared first and must be the
same within 1e-9; then the sides take turns. Times are CPU time, the medians; memory is the most
that a side allocates on top of the tables and the submission, in a run of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.data_classes import DetectionMetrics
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.nuscenes import NuScenes

from fsdbev.evaluation import write_submission
from fsdbev.evaluation.box_arrays import arrays_of_submission
from fsdbev.evaluation.metrics import score
from fsdbev.evaluation.scoring import DEVKIT_CONFIG, differences
from fsdbev.evaluation.truth import GroundTruth, read_truth
from fsdbev.utils.atomic_write import atomic_write

from . import made_up_scenes

#: Samples of nuScenes' validation split.
VAL_SAMPLES = 6019

Side = Callable[[], DetectionMetrics]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        milliseconds: a sample.
        ratio: the devkit's time over this one.
        val_seconds: for as many samples as nuScenes val has, in proportion.
        megabytes: most that is allocated.
    """

    side: str
    milliseconds: float
    ratio: float
    val_seconds: float
    megabytes: float

    def __str__(self) -> str:
        return (
            f"{self.side:<18} {self.milliseconds:>10.2f} {self.ratio:>9.1f}"
            f" {self.val_seconds:>10.1f} {self.megabytes:>9.1f}"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--boxes", type=int, default=200, help="predicted boxes in a sample")
    parser.add_argument("--objects", type=int, default=40, help="true boxes in a sample")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", help="for the made-up files; default: a temporary one")
    parser.add_argument("--json", type=Path, help="file for the same rows, unrounded")


def run(args: argparse.Namespace) -> None:
    """Makes the data up, compares, measures, prints the table.

    Raises:
        ValueError: there is nothing to measure, or the summaries differ.
        FileNotFoundError: the folder of ``--json`` does not exist.
    """
    if min(args.samples, args.boxes, args.objects, args.repeat) < 1:
        raise ValueError("--samples, --boxes, --objects and --repeat start at 1")
    if args.json and not args.json.absolute().parent.is_dir():
        raise FileNotFoundError(f"--json: there is no folder {args.json.absolute().parent}")
    machine = {
        "device": platform.processor() or platform.machine(),
        "numpy": np.__version__,
        "nuscenes-devkit": version("nuscenes-devkit"),
    }
    print("\n".join(f"{name}: {value}" for name, value in machine.items()))
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        rows = measure(sides(Path(folder), args), args.samples, args.repeat)
    print(f"{args.samples} samples of {args.boxes} predicted and {args.objects} true boxes")
    print(f"{'':<18} {'ms/sample':>10} {'devkit x':>9} {'s for val':>10} {'peak MB':>9}")
    print("\n".join(map(str, rows)))
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key not in ("run", "json")}
        records = [dataclasses.asdict(row) for row in rows]
        content = {"machine": machine, "settings": settings, "rows": records}
        with atomic_write(args.json) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")


def sides(folder: Path, args: argparse.Namespace) -> dict[str, Side]:
    """What is measured, by name, on data made up in ``folder``; the devkit is the last."""
    made_up_scenes.write_data_set(folder, args.samples, args.objects)
    nusc = NuScenes(made_up_scenes.VERSION, str(folder), verbose=False)
    results = made_up_scenes.detections(nusc, args.boxes)
    submission = folder / "results_nusc.json"
    write_submission(results, submission)
    config = config_factory(DEVKIT_CONFIG)
    kept = read_truth(nusc, list(results), config)

    def devkit() -> DetectionMetrics:
        with redirect_stderr(StringIO()):  # its progress bar
            evaluation = DetectionEval(
                nusc, config, str(submission), made_up_scenes.SPLIT, str(folder), verbose=False
            )
        return evaluation.evaluate()[0]

    def ours(truth: GroundTruth | None = None) -> DetectionMetrics:
        truth = truth or read_truth(nusc, list(results), config)
        return score(arrays_of_submission(results), truth, config).metrics

    return {
        "ours, truth read": ours,
        "ours, truth kept": partial(ours, kept),
        "devkit": devkit,
    }


def measure(sides: dict[str, Side], samples: int, repeat: int) -> list[Row]:
    """One row a side; ratios are to the last."""
    check({name: side().serialize() for name, side in sides.items()})
    names = list(sides)
    times: dict[str, list[float]] = {name: [] for name in names}
    for count in range(repeat):
        turn = count % len(names)
        for name in names[turn:] + names[:turn]:
            begin = time.process_time()
            sides[name]()
            times[name].append(time.process_time() - begin)
    seconds = {name: statistics.median(found) / samples for name, found in times.items()}
    return [
        Row(
            side=name,
            milliseconds=1e3 * seconds[name],
            ratio=seconds[names[-1]] / seconds[name],
            val_seconds=seconds[name] * VAL_SAMPLES,
            megabytes=peak_bytes(sides[name]) / 1e6,
        )
        for name in names
    ]


def check(summaries: dict[str, dict[str, Any]]) -> None:
    """Raises ValueError unless all numbers are the last side's, within 1e-9."""
    *_, expected = summaries.values()
    wrong = [name for name, each in summaries.items() if differences(each, expected, 1e-9)]
    if wrong:
        raise ValueError(
            f"the summaries of {wrong} are not the devkit's, so their times mean nothing; nothing "
            "was timed"
        )


def peak_bytes(side: Side) -> int:
    """The most memory that a side has allocated at a time."""
    tracemalloc.start()
    side()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak
