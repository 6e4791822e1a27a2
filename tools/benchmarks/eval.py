"""Time and memory of nuScenes' detection metrics, of the devkit and of this project.

Both compute the summary of a submission: the devkit from a file, this project from the boxes in the
evaluator's memory. "truth read" includes the conversion of the ground truth to arrays, as in the
first evaluation; "truth kept" is every later evaluation. The summaries must agree within 1e-9; then
the implementations run in turns. Times are medians of CPU time. "peak MB" is the peak of allocated
memory without tables and submission, measured in a separate run. Tables and submission are random.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Mapping
from contextlib import redirect_stderr
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes.eval.detection.evaluate import DetectionEval
from oracles.tables import CATEGORIES, SPLIT, draw_submission, draw_tables, write_splits

from fsdbev.evaluation.box_arrays import submission_arrays
from fsdbev.evaluation.metrics import score
from fsdbev.evaluation.nuscenes_truth import nuscenes_task, read_truth
from fsdbev.evaluation.scoring import summary_differences
from fsdbev.structures import NUSCENES_CLASSES

from . import machine
from .turns import Case, Side, measure

#: Samples of nuScenes' validation split.
VAL_SAMPLES = 6019
TOLERANCE = 1e-9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--samples", type=int, default=200, help="samples of the split (default: 200)")
    add("--boxes", type=int, default=200, help="predicted boxes per sample (default: 200)")
    add("--objects", type=int, default=40, help="objects, each in most samples (default: 40)")
    add("--repeat", type=int, default=3, help="rounds (default: 3)")
    add("--folder", help="folder for the files (default: a temporary folder)")


def run(args: argparse.Namespace) -> None:
    """Draws random data, compares, measures and prints the table.

    Raises:
        ValueError: a number is less than 1, or the summaries differ.
        FileNotFoundError: the folder of ``--json`` does not exist.
    """
    machine.check(args, "samples", "boxes", "objects", "repeat")
    about = {**machine.describe(), "nuscenes-devkit": version("nuscenes-devkit")}
    machine.show(about)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        sides = make_sides(Path(folder), args)
        case = Case("metrics", f"{args.samples} samples", sides, summaries_differ)
        (times,) = measure([case] * args.repeat, clock=time.process_time)
        rows = [_row(name, side, times, args.samples) for name, side in sides.items()]
    print(f"{args.samples} samples of {args.boxes} predicted boxes, {args.objects} objects")
    print(machine.table(rows))
    machine.write_json(args, about, rows=rows)


def make_sides(folder: Path, args: argparse.Namespace) -> dict[str, Side]:
    """Returns the implementations, each of which returns the summary."""
    rng, kinds = np.random.default_rng(0), {"coarse": False, "classes": list(CATEGORIES)}
    write_splits(folder)
    nusc = draw_tables(rng, folder, samples=args.samples, objects=args.objects, **kinds)
    results = draw_submission(rng, nusc, boxes=args.boxes, scores=0, **kinds)
    submission = folder / "results_nusc.json"
    submission.write_text(json.dumps({"meta": {}, "results": results}))
    task = nuscenes_task(NUSCENES_CLASSES)
    kept = read_truth(nusc, list(results), NUSCENES_CLASSES)

    def truth_kept() -> dict[str, Any]:
        found = submission_arrays(results, task.names, task.attributes)
        return score(found, kept, task).metrics.serialize()

    def truth_read() -> dict[str, Any]:
        truth = read_truth(nusc, list(results), NUSCENES_CLASSES)
        found = submission_arrays(results, task.names, task.attributes)
        return score(found, truth, task).metrics.serialize()

    def devkit() -> dict[str, Any]:
        with redirect_stderr(StringIO()):  # hides the progress bar
            arguments = (nusc, task.config, str(submission), SPLIT, str(folder))
            return DetectionEval(*arguments, verbose=False).evaluate()[0].serialize()

    return {"ours, truth read": truth_read, "ours, truth kept": truth_kept, "devkit": devkit}


def summaries_differ(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Returns the names of numbers that differ by more than the tolerance."""
    return ", ".join(summary_differences(own, other, TOLERANCE))


def _row(name: str, side: Side, times: Mapping[str, float], samples: int) -> dict[str, Any]:
    """Measures the peak memory and returns the row of one implementation."""
    tracemalloc.start()
    side()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    ms = times[f"{name} ms"] / samples
    row = {"side": name, "ms a sample": ms, "devkit x": times["devkit ms"] / times[f"{name} ms"]}
    return row | {"s for val": ms * VAL_SAMPLES / 1e3, "peak MB": peak / 1e6}
