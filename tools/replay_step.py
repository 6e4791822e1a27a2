#!/usr/bin/env python
"""Runs again the iteration that stopped a training because of a number that is not finite.

RECORD is the folder stopped_at_<iteration> in the output folder of the training. Prints the losses
and the module whose output was the first that was not finite. Changes of the config show what mends
it, as another precision: replay_step.py RECORD --rank 3 train.amp.enabled=false
"""

import argparse
import sys
from pathlib import Path

from command_line import exit_status, tool_parser

from fsdbev.config import load_config
from fsdbev.engine.trainer import replay


def run(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file or str(args.record.parent / "config.yaml"), args.opts)
    saved, losses, not_finite = replay(str(args.record / f"rank{args.rank}.pth"), cfg)
    print(f"iteration {saved['iteration']}, rank {saved['rank']}")
    for name, loss in losses.items():
        print(f"{name:20} was {saved['losses'].get(name, '-')}, is {loss}")
    print(f"not finite first: the output of {not_finite[0] if not_finite else 'no module'}")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("record", type=Path, metavar="RECORD", help="folder of the iteration")
    parser.add_argument("--rank", type=int, default=0, help="whose batch; the error names the rank")
    parser.add_argument("--config-file", metavar="FILE", help="default: the training's config.yaml")
    parser.add_argument("opts", nargs="*", help="changes to the config, as path.key=value")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    return exit_status(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
