#!/usr/bin/env python
"""Prepares a data set in nuScenes format for training and evaluation: frame index and point labels.

    python tools/prepare_nuscenes.py --dataroot data/nuscenes --version v1.0-trainval
    python tools/prepare_nuscenes.py --dataroot data/nuscenes --version v1.0-trainval --check

    # your own classes: model.classes of a config; all files of an output folder have the same ones
    python tools/prepare_nuscenes.py --dataroot data/nuscenes --version v1.0-trainval \\
        --classes my_config.py --output output/own_classes

    # part of the scenes, as a split that a config can name
    python tools/prepare_nuscenes.py --dataroot data/nuscenes --version v1.0-trainval \\
        --scenes scene-0001 scene-0003 --split-name few

Run the tool again after an interruption: it skips complete files, and files appear only when they
are complete. Their content depends only on the data set, not on interruptions or the number of
workers. A second run at the same time is refused. For a read-only data root use --output, and pass
the same folder to train_net.py as dataloader.index_dir.

A missing image, sweep or label file is an error. With --skip-incomplete, its scene is left out and
listed. Every image is decoded once; an error lists those that can't be.

--check changes nothing; it takes the options of the preparation. It lists all problems with their
remedies and exits with status 1 if there are any. It checks that

- index and point labels are complete, have the current schema and were made from these tables;
- samples, objects and lidarseg categories agree with the tables;
- images exist and have the size and the checksum of the index;
- sweeps exist and have as many lidarseg labels as points.

--check full also decodes every image and reads every sweep, which takes about as long as making the
labels.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from command_line import cpu_count, exit_status, read_classes, tool_parser
from tqdm import tqdm

from fsdbev.data.labels.labeller import STAGES, LabelStatistics
from fsdbev.data.labels.point_labels import GROUPS
from fsdbev.data.nuscenes.check import check_nuscenes
from fsdbev.data.nuscenes.output_folder import default_output
from fsdbev.data.nuscenes.prepare import PreparedSplit, prepare_nuscenes
from fsdbev.data.nuscenes.sensor_files import skipped_scenes
from fsdbev.structures import NUSCENES_CLASSES
from fsdbev.utils.plain_file import read_bytes

#: More workers gain little, and each takes some 300 MB of memory.
_MAX_WORKERS = 16
#: Size limit of a file of scene names, bytes.
_MAX_BYTES = 1 << 20


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    workers = min(cpu_count(), _MAX_WORKERS)
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--dataroot", required=True, help="folder with the folder of the version")
    add("--version", required=True, help="v1.0-trainval, v1.0-mini, v1.0-test or your own")
    splits = "official splits, those of splits.json or earlier --split-name (default: all of them)"
    add("--splits", nargs="+", help=splits)
    scenes = "scenes of one split, or a file with a name per line; needs --split-name"
    add("--scenes", nargs="+", metavar="SCENE", help=scenes)
    add("--split-name", metavar="NAME", help="name of the split of --scenes")
    incomplete = "leave out scenes of which an image, a sweep or its labels are missing"
    add("--skip-incomplete", action="store_true", help=incomplete)
    count = f"worker processes, 0 for none (default: number of CPUs, at most {_MAX_WORKERS})"
    add("--workers", type=int, default=workers, help=count)
    add("--output", help="output folder (default: <dataroot>/fsdbev/<version>)")
    classes = "config whose model.classes are used, or YAML file of classes (default: nuScenes')"
    add("--classes", metavar="CONFIG", help=classes)
    background = "unknown categories to treat as background; other unknown categories are refused"
    add("--background", nargs="+", default=[], metavar="CATEGORY", help=background)
    balance = (
        "rectification of distorted images: 0 (no black borders) to 1 (all of the image); default: "
        "keep the focal length"
    )
    add("--balance", type=float, metavar="B", help=balance)
    check = "check prepared files only; full: decode every image and read every sweep too"
    add("--check", nargs="?", const="fast", choices=["fast", "full"], help=check)
    return parser.parse_args(arguments)


def _progress(items: Iterable, total: int, what: str) -> Iterable:
    """Shows a progress bar."""
    # In a log file each update is a new line.
    seconds = 0.1 if sys.stderr.isatty() else 30
    return tqdm(items, total=total, desc=what, unit="sample", mininterval=seconds)


def _scene_names(values: Sequence[str] | None) -> list[str] | None:
    """Returns the names of ``--scenes``: the values, or the lines of the file that they name."""
    if values is None or len(values) > 1 or not Path(values[0]).is_file():
        return values
    try:
        lines = read_bytes(values[0], _MAX_BYTES).decode().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{values[0]}: must be text in UTF-8, a scene name per line") from error
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def _left_out(done: PreparedSplit) -> str:
    """Formats the scenes that ``--skip-incomplete`` left out, one per line."""
    skipped = skipped_scenes(done.index)
    lines = [f"  {scene}: {path} is missing" for scene, path in skipped.items()]
    return "\n".join([f"incomplete scenes left out: {len(skipped)}", *lines])


def _table(statistics: LabelStatistics, class_names: Sequence[str]) -> str:
    """Formats the label statistics, one line per class.

    Columns are the labelled pixels by group, the objects, and the objects without a point in any
    camera after each stage; see ``LabelStatistics``.
    """
    rows = [["class", *GROUPS, "objects", *(f"no point: {stage}" for stage in STAGES)]]
    points, without = statistics.points, statistics.without_points
    for class_id, name in enumerate(class_names):
        counts = (*points[:, class_id], statistics.objects[class_id], *without[:, class_id])
        rows.append([name, *map(str, counts)])
    rows.append(["background", *map(str, points[:, -1]), *[""] * (1 + len(STAGES))])
    totals = (*points.sum(axis=1), statistics.objects.sum(), *without.sum(axis=1))
    rows.append(["all", *map(str, totals)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def _prepare(options: dict[str, Any], args: argparse.Namespace) -> int:
    """Prepares the data set and prints statistics; returns the exit status."""
    prepared = prepare_nuscenes(
        **options, background=args.background, skip_incomplete=args.skip_incomplete
    )
    for split, done in prepared.items():
        print(f"{split}: {len(done.index)} samples, {done.index.num_annotations} boxes")
        if gaps := done.index.gap_report():
            print(f"  {gaps}")
        if skipped_scenes(done.index):
            print(_left_out(done))
        if done.statistics:
            print(_table(done.statistics, done.index.classes.names))
    print(f"prepared in {options['output']}")
    return 0


def _check(options: dict[str, Any], args: argparse.Namespace) -> int:
    """Checks prepared files and prints the findings; returns the exit status."""
    report = check_nuscenes(**options, full=args.check == "full")
    for line in report.lines():
        print(line)
    if report.findings:
        print(f"findings in {options['output']}: {len(report.findings)}")
        return 1
    hint = "" if args.check == "full" else "; --check full also reads all images and sweeps"
    print(f"no problems in {options['output']}{hint}")
    return 0


def run(args: argparse.Namespace) -> int:
    """Prepares or checks; returns the exit status."""
    output = Path(args.output) if args.output else default_output(args.dataroot, args.version)
    options = {
        "dataroot": args.dataroot,
        "version": args.version,
        "splits": args.splits,
        "scenes": _scene_names(args.scenes),
        "split_name": args.split_name,
        "output": output,
        "classes": read_classes(args.classes) if args.classes else NUSCENES_CLASSES,
        "balance": args.balance,
        "workers": args.workers,
        "progress": _progress,
    }
    return _check(options, args) if args.check else _prepare(options, args)


def main() -> int:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_status(run, args, interrupted="interrupted; run again to continue")


if __name__ == "__main__":
    sys.exit(main())
