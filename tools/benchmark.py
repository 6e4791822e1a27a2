#!/usr/bin/env python
"""Benchmarks of this project on the current machine.

    python tools/benchmark.py ops [--device cpu|cuda] [--only lift_splat nms heatmaps] [--json F]
    python tools/benchmark.py train [key=value ...] --config-file configs/fsdbev_r50_cbgs.py

The --help of a subject describes what it measures. docs/performance.md explains the results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import ROOT, exit_status, intermix_overrides

# The published algorithms are in tests/oracles, since tests compare with them too.
sys.path.append(str(ROOT / "tests"))

from benchmarks import eval, infer, loader, ops, train  # noqa: E402  after the path is set

SUBJECTS = {
    "ops": ops,
    "loader": loader,
    "train": train,
    "infer": infer,
    "eval": eval,
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subjects = parser.add_subparsers(required=True)
    for name, subject in SUBJECTS.items():
        subject_parser = subjects.add_parser(
            name,
            description=subject.__doc__,
            help=subject.__doc__.splitlines()[0],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subject.add_arguments(subject_parser)
        subject_parser.add_argument("--json", type=Path, help="file for the unrounded results")
        subject_parser.set_defaults(run=subject.run)
    result, rest = parser.parse_known_args(arguments)
    intermix_overrides(parser, result, rest)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    return exit_status(args.run, args)


if __name__ == "__main__":
    sys.exit(main())
