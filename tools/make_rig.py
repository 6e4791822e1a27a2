#!/usr/bin/env python
"""Writes the camera rig of a sample as a rig file for tools/demo.py and fsdbev.Predictor.

    python tools/make_rig.py --index data/nuscenes/fsdbev/v1.0-trainval/val.arrow --out rig.yaml

docs/own_cameras.md describes the rig file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from command_line import exit_status, tool_parser

from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.io.rig_file import rig_of_frame, write_rig
from fsdbev.visualization import rows_of


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("--index", required=True, help="frame index (.arrow)")
    parser.add_argument("--sample", metavar="TOKEN", help="sample token (default: first sample)")
    parser.add_argument("--out", required=True, help="rig file to write (.yaml)")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> None:
    """Writes the rig file and prints its path."""
    index = FrameIndex(args.index)
    row = 0 if args.sample is None else rows_of(index, [args.sample])[0]
    write_rig(rig_of_frame(index[row]), args.out)
    print(args.out)


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_status(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
