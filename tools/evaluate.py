#!/usr/bin/env python
"""Scores a results file in nuScenes' format, of this project or of another program.

    python tools/evaluate.py results_nusc.json --dataroot data/nuscenes --version v1.0-trainval \\
        --split val --output output/theirs

It needs the tables of the version, no images and no prepared files. It prints the metrics of this
project and compares them with those of nuScenes' devkit. With --output it writes

    report.html           metrics by class and distance, errors, best and worst samples
    metrics_summary.json  the metrics, as the devkit writes them

The report has pictures if the split is prepared (tools/prepare_nuscenes.py).

A file that the devkit refuses is an error, which lists all kinds of problems with numbers and
examples: samples without predictions, samples of another split, more than 500 boxes in a sample,
unknown classes, missing or wrong values. Boxes that the devkit accepts although they are not as
nuScenes defines them are scored as the devkit does, and a notice counts them: attributes that are
empty or of another class, velocities of NaN, rotations that are not unit quaternions. Infinite
numbers, boxes without score, of size 0 or of another sample are always errors: there the devkit
ends with an error or a meaningless result, depending on the other boxes.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from command_line import exit_status, read_classes, tool_parser

from fsdbev.data.build import open_nuscenes
from fsdbev.data.dataset import FrameDataset
from fsdbev.evaluation import ScoredDetections
from fsdbev.evaluation.metrics import format_table
from fsdbev.evaluation.nuscenes_truth import TableTruth, check_split
from fsdbev.evaluation.results_file import read_results
from fsdbev.evaluation.scoring import add_official, score_results, summary_differences
from fsdbev.report.writer import REPORT_FILE, write_results_report
from fsdbev.structures import NUSCENES_CLASSES, ClassSet
from fsdbev.utils.atomic_write import write_json
from fsdbev.utils.folder_lock import locked_folder

#: Largest difference from the devkit's metrics that counts as agreement.
_TOLERANCE = 1e-9


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("results", metavar="RESULTS.json", help="results file in nuScenes' format")
    add("--dataroot", required=True, help="folder with the folder of the version")
    add("--version", required=True, help="v1.0-trainval, v1.0-mini or your own")
    add("--split", required=True, help="official split, or one of splits.json")
    add("--output", metavar="DIR", help="folder of report and metrics (default: only print)")
    prepared = "folder of the frame index, for pictures (default: <dataroot>/fsdbev/<version>)"
    add("--index-dir", metavar="DIR", help=prepared)
    classes = "config whose model.classes are used, or YAML file of classes (default: nuScenes')"
    add("--classes", metavar="CONFIG", help=classes)
    return parser.parse_args(arguments)


def open_index(args: argparse.Namespace, classes: ClassSet) -> FrameDataset | None:
    """Opens the prepared split; None, with a notice, if that is not possible."""
    place = {key: getattr(args, key) for key in ("dataroot", "version", "split", "index_dir")}
    try:
        return open_nuscenes(**place, classes=classes)
    except (OSError, ValueError) as error:
        print(f"notice: the report has no pictures: {error}")
        return None


def compared(scored: ScoredDetections) -> list[str]:
    """Returns lines that compare the metrics with the devkit's."""
    if scored.official is None:
        return [f"nuScenes' devkit does not compute these metrics: {scored.unofficial}"]
    differing = summary_differences(scored.summary, scored.official, _TOLERANCE)
    if not differing:
        main = f"mAP {scored.official['mean_ap']:.4f}, NDS {scored.official['nd_score']:.4f}"
        return [f"nuScenes' devkit: {main}; all metrics agree within {_TOLERANCE:g}"]
    return [
        f"warning: {name} is {ours!r} here, but {theirs!r} by nuScenes' devkit"
        for name, (ours, theirs) in differing.items()
    ]


def run(args: argparse.Namespace) -> None:
    """Locks the output folder, if any, and evaluates."""
    lock = locked_folder(args.output, "choose another --output") if args.output else nullcontext()
    with lock:
        evaluate(args)


def evaluate(args: argparse.Namespace) -> None:
    """Reads, scores and reports."""
    check_split(args.dataroot, args.version, args.split)
    classes = read_classes(args.classes) if args.classes else NUSCENES_CLASSES
    place = {key: getattr(args, key) for key in ("dataroot", "version", "split")}
    source = TableTruth(classes=classes, unseen_objects="count", **place)
    file = read_results(args.results, source)
    for notice in file.notices:
        print(f"notice: {notice}")
    scored = score_results(file.boxes, source, file.meta)
    if scored is None:
        print(f"{args.results} is complete; {source.name} has no annotations, so no metrics")
        return
    scored = replace(scored, results=file.boxes, notes=[*scored.notes, *file.notices])
    try:
        with tempfile.TemporaryDirectory() as scratch:
            scored = add_official(scored, source, Path(args.results), scratch)
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"nuScenes' devkit refuses {args.results}: {error!r}") from error
    print(format_table(scored.summary), *compared(scored), sep="\n")
    if args.output:
        output = Path(args.output)
        write_json(scored.summary, output / "metrics_summary.json", indent=2)
        dataset = open_index(args, classes)
        write_results_report(output / REPORT_FILE, args.results, scored, dataset)
        print(output / REPORT_FILE)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    return exit_status(run, args)


if __name__ == "__main__":
    sys.exit(main())
