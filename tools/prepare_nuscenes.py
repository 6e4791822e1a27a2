"""Prepares a nuScenes-format data set for training and evaluation: index and point labels, at once.

    python tools/prepare_nuscenes.py --dataroot data/nuscenes --version v1.0-trainval --workers 8

Run it again after an interruption: what is done is skipped, unfinished files don't exist. For a
read-only data root give --output, and the same folder as dataloader.index_dir to train_net.py.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from fsdbev.data.labelling import STAGES, LabelStatistics  # noqa: E402
from fsdbev.data.point_labels import GROUPS  # noqa: E402
from fsdbev.data.prepare import default_output, prepare_nuscenes  # noqa: E402
from fsdbev.structures import CLASS_NAMES  # noqa: E402


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataroot", required=True, help="folder that holds the version's folder")
    parser.add_argument("--version", required=True, help="e.g. v1.0-trainval")
    parser.add_argument("--splits", nargs="+", help="default: all that have a scene in the version")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: this one only")
    parser.add_argument("--output", help="default: <dataroot>/fsdbev/<version>")
    return parser.parse_args()


def _progress(items: Iterable, total: int, what: str) -> Iterable:
    return tqdm(items, total=total, desc=what, unit="sample")


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


def main() -> int:
    args = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output = args.output or default_output(args.dataroot, args.version)
    try:
        prepared = prepare_nuscenes(
            dataroot=args.dataroot,
            version=args.version,
            splits=args.splits,
            output=output,
            workers=args.workers,
            progress=_progress,
        )
    except (FileNotFoundError, PermissionError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for split, done in prepared.items():
        print(f"{split}: {len(done.index)} samples, {done.index.num_annotations} boxes")
        if done.statistics:
            print(_table(done.statistics))
    print(f"prepared in {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
