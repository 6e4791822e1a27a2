"""Prepares a nuScenes-format data set for training and evaluation: index and point labels, at once.

    python tools/prepare_nuscenes.py --dataroot data/nuscenes --version v1.0-trainval
    python tools/prepare_nuscenes.py --dataroot data/nuscenes --version v1.0-trainval --check

Run it again after an interruption of any kind, or to be sure: what is done is skipped, unfinished
files don't exist. The files depend on the data set only, not on interruptions or workers. A second
run at the same time is refused. For a read-only data root give --output, and the same folder as
dataloader.index_dir to train_net.py.

--check changes nothing, lists all that is wrong and says what to do; it exits with 1 if anything
is. It covers: index and point labels whole, of this schema and made from the very tables; samples,
objects and lidarseg categories as in the tables; images there, of the right size and with a whole
end; sweeps there, with as many lidarseg labels as points. --check full also decodes every image and
reads every sweep, which takes about as long as making the labels.
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
from fsdbev.data.nuscenes.output_folder import default_output
from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.structures import CLASS_NAMES

#: More gain little, and each takes some 300 MB of memory.
_MOST_WORKERS = 16


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    workers = min(cpu_count(), _MOST_WORKERS)
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--dataroot", required=True, help="folder that holds the version's folder")
    add("--version", required=True, help="v1.0-trainval, v1.0-mini, v1.0-test, or one of your own")
    add(
        "--splits",
        nargs="+",
        help="official ones or those of splits.json; default: all that have a scene in the version",
    )
    add(
        "--workers",
        type=int,
        default=workers,
        help=f"processes; 0: this one only; default: the CPUs, at most {_MOST_WORKERS}: {workers}",
    )
    add("--output", help="default: <dataroot>/fsdbev/<version>")
    add(
        "--background",
        nargs="+",
        default=[],
        metavar="CATEGORY",
        help="categories that nuScenes doesn't have and that are background; others are refused",
    )
    add(
        "--check",
        nargs="?",
        const="fast",
        choices=["fast", "full"],
        help="look at what is prepared instead; full: decode every image and read every sweep",
    )
    return parser.parse_args(arguments)


def _progress(items: Iterable, total: int, what: str) -> Iterable:
    seconds = 0.1 if sys.stderr.isatty() else 30  # a line each time in a log file
    return tqdm(items, total=total, desc=what, unit="sample", mininterval=seconds)


def _table(statistics: LabelStatistics) -> str:
    """Labelled pixels by where they come from, objects, and those of them that no camera has a
    point of, a line a class; see ``LabelStatistics``."""
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
    from fsdbev.data.nuscenes.check import check_nuscenes

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
    unseen = "" if args.check == "full" else "; images and sweeps were not read whole: --check full"
    print(f"nothing is wrong with {output}{unseen}")
    return 0


def run(args: argparse.Namespace) -> int:
    output = Path(args.output) if args.output else default_output(args.dataroot, args.version)
    return _check(args, output) if args.check else _prepare(args, output)


def main() -> int:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return exit_status(run, args, interrupted="interrupted; run again to go on from here")


if __name__ == "__main__":
    sys.exit(main())
