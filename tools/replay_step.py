#!/usr/bin/env python
"""Runs again the iteration that stopped a training because of a number that is not finite.

RECORD is the folder stopped_at_<iteration> that the training left in its output folder. Prints
every loss as it was and as it is now, and the part of the model whose output was the first that was
not finite. Changes of the config show what mends it, as another precision does here:

  replay_step.py output/stopped_at_0004711
  replay_step.py output/stopped_at_0004711 --rank 3 train.amp.enabled=false
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]

# ruff: noqa: E402  after the path is set, for use without installation
from command_line import exit_status

from fsdbev.engine import load_config
from fsdbev.engine.replay import CONFIG, replay


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("record", type=Path, metavar="RECORD", help="folder of the iteration")
    parser.add_argument("--rank", type=int, default=0, help="whose batch; the error names the rank")
    parser.add_argument("--config-file", metavar="FILE", help="default: what the record has")
    parser.add_argument("opts", nargs="*", help="changes to the config, as path.key=value")
    return parser.parse_intermixed_args(arguments)


def run(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file or str(args.record / CONFIG), args.opts)
    again = replay(args.record, cfg, args.rank)
    print(f"iteration {again.iteration}, rank {again.rank}")
    width = max(map(len, again.losses))
    for name, loss in again.losses.items():
        print(f"  {name:<{width}}  was {again.recorded.get(name, '-')}, is {loss}")
    if again.first_bad:
        inside = " in ".join(again.first_bad)
        print(f"not finite first: the output of {inside}")
    else:
        print("the output of every part of the model is finite")


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_status(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
