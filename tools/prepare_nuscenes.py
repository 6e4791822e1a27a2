#!/usr/bin/env python
"""Prepares a data set in nuScenes format for training and evaluation: frame index and point labels.

    python tools/prepare_nuscenes.py --dataroot data/nuscenes --version v1.0-trainval
    python tools/prepare_nuscenes.py --dataroot data/nuscenes --version v1.0-trainval --check

Run the tool again after an interruption: it skips complete files, and files appear only when they
are complete. Their content depends only on the data set, not on interruptions or the number of
workers. A second run at the same time is refused. For a read-only data root use --output, and pass
the same folder to train_net.py as dataloader.index_dir.

--check changes nothing. It lists all problems with their remedies and exits with status 1 if there
are any. It checks that

- index and point labels are complete, have the current schema and were made from these tables;
- samples, objects and lidarseg categories agree with the tables;
- images exist, have the right size and are not cut short;
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

from command_line import cpu_count, exit_status, tool_parser
from tqdm import tqdm

from fsdbev.data.labels.labeller import STAGES, LabelStatistics
from fsdbev.data.labels.point_labels import GROUPS
from fsdbev.data.nuscenes.check import check_nuscenes
from fsdbev.data.nuscenes.output_folder import default_output
from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.structures import CLASS_NAMES

#: More workers gain little, and each takes some 300 MB of memory.
_MAX_WORKERS = 16


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    workers = min(cpu_count(), _MAX_WORKERS)
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--dataroot", required=True, help="folder with the folder of the version")
    add("--version", required=True, help="v1.0-trainval, v1.0-mini, v1.0-test or your own")
    splits = "official splits or those of splits.json (default: all with a scene in the version)"
    add("--splits", nargs="+", help=splits)
    count = f"worker processes, 0 for none (default: number of CPUs, at most {_MAX_WORKERS})"
    add("--workers", type=int, default=workers, help=count)
    add("--output", help="output folder (default: <dataroot>/fsdbev/<version>)")
    background = "unknown categories to treat as background; other unknown categories are refused"
    add("--background", nargs="+", default=[], metavar="CATEGORY", help=background)
    check = "check prepared files only; full: decode every image and read every sweep too"
    add("--check", nargs="?", const="fast", choices=["fast", "full"], help=check)
    return parser.parse_args(arguments)


def _progress(items: Iterable, total: int, what: str) -> Iterable:
    """Shows a progress bar."""
    # In a log file each update is a new line.
    seconds = 0.1 if sys.stderr.isatty() else 30
    return tqdm(items, total=total, desc=what, unit="sample", mininterval=seconds)


def _table(statistics: LabelStatistics) -> str:
    """Formats the label statistics, one line per class.

    Columns are the labelled pixels by group, the objects, and the objects without a point in any
    camera after each stage; see ``LabelStatistics``.
    """
    rows = [["class", *GROUPS, "objects", *(f"no point: {stage}" for stage in STAGES)]]
    points, without = statistics.points, statistics.without_points
    for class_id, name in enumerate(CLASS_NAMES):
        counts = (*points[:, class_id], statistics.objects[class_id], *without[:, class_id])
        rows.append([name, *map(str, counts)])
    rows.append(["background", *map(str, points[:, -1]), *[""] * (1 + len(STAGES))])
    totals = (*points.sum(axis=1), statistics.objects.sum(), *without.sum(axis=1))
    rows.append(["all", *map(str, totals)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )


def _prepare(args: argparse.Namespace, output: Path) -> int:
    """Prepares the data set and prints statistics; returns the exit status."""
    prepared = prepare_nuscenes(
        dataroot=args.dataroot,
        version=args.version,
        splits=args.splits,
        output=output,
        workers=args.workers,
        background=args.background,
        progress=_progress,
    )
    for split, done in prepared.items():
        print(f"{split}: {len(done.index)} samples, {done.index.num_annotations} boxes")
        if done.statistics:
            print(_table(done.statistics))
    print(f"prepared in {output}")
    return 0


def _check(args: argparse.Namespace, output: Path) -> int:
    """Checks prepared files and prints the findings; returns the exit status."""
    report = check_nuscenes(
        dataroot=args.dataroot,
        version=args.version,
        splits=args.splits,
        output=output,
        workers=args.workers,
        full=args.check == "full",
        progress=_progress,
    )
    for line in report.lines():
        print(line)
    if report.findings:
        print(f"findings in {output}: {len(report.findings)}")
        return 1
    hint = "" if args.check == "full" else "; --check full also reads all images and sweeps"
    print(f"no problems in {output}{hint}")
    return 0


def run(args: argparse.Namespace) -> int:
    """Prepares or checks; returns the exit status."""
    output = Path(args.output) if args.output else default_output(args.dataroot, args.version)
    return _check(args, output) if args.check else _prepare(args, output)


def main() -> int:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_status(run, args, interrupted="interrupted; run again to continue")


if __name__ == "__main__":
    sys.exit(main())
