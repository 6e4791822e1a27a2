#!/usr/bin/env python
"""Benchmarks, on the machine they run on.

    python tools/benchmark.py ops [--device cpu|cuda] [--only lift_splat nms heatmaps] [--json F]
    python tools/benchmark.py data [--rows 34149] [--labels 40] [--folder DIR]

``ops``: the compiled operators against their PyTorch twins and against the published algorithms.
``data``: the frame index at the size of nuScenes trainval, what a loader's worker needs for it, and
the making of point labels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

# ruff: noqa: E402  after the path is set, for use without installation
from benchmarks import data, ops
from command_line import exit_status


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subjects = parser.add_subparsers(required=True)
    for name, subject in (("ops", ops), ("data", data)):
        own = subjects.add_parser(
            name,
            description=subject.__doc__,
            help=subject.__doc__.splitlines()[0],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subject.add_arguments(own)
        own.set_defaults(run=subject.run)
    args = parser.parse_args(arguments)
    return exit_status(args.run, args)


if __name__ == "__main__":
    sys.exit(main())
