#!/usr/bin/env python
"""Repeats the iteration at which a training stopped because of a NaN or infinite value.

RECORD is the folder stopped_at_<iteration> in the output folder of the training. The tool prints
the losses and the first module with an output that is not finite. Overrides show whether another
config avoids the problem, for example full precision:

    python tools/replay_step.py RECORD --rank 3 train.amp.enabled=false
"""

import argparse
import sys
from pathlib import Path

from command_line import exit_status, tool_parser

from fsdbev.config import load_config
from fsdbev.engine.trainer import replay


def run(args: argparse.Namespace) -> None:
    """Repeats the iteration and prints its losses."""
    cfg = load_config(args.config_file or str(args.record.parent / "config.yaml"), args.opts)
    saved, losses, not_finite = replay(str(args.record / f"rank{args.rank}.pth"), cfg)
    print(f"iteration {saved['iteration']}, rank {saved['rank']}")
    for name, loss in losses.items():
        print(f"{name:20} was {saved['losses'].get(name, '-')}, is {loss}")
    print(f"not finite first: the output of {not_finite[0] if not_finite else 'no module'}")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("record", type=Path, metavar="RECORD", help="folder stopped_at_<iteration>")
    parser.add_argument(
        "--rank",
        type=int,
        default=0,
        help="rank to repeat, named in the error message (default: 0)",
    )
    parser.add_argument(
        "--config-file", metavar="FILE", help="config file (default: config.yaml of the training)"
    )
    parser.add_argument("opts", nargs="*", metavar="key=value", help="changes to the config")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    return exit_status(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
