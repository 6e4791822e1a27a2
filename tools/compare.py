#!/usr/bin/env python
"""Trains and evaluates configs on the same data, with the same budget and seeds, and compares them.

    python tools/compare.py --config-file A.py NAME=B.py ... --seeds 0 1 2 --out DIR \\
        [--processes 2] [--doc FILE.md] [--only-report] [key=value ...]

Every config is trained once a seed, in DIR/NAME/seedS; key=value goes to every run. Configs that
are not trained for as long, or not on the same data, are refused. Called again it goes on: what is
done stays, what was begun goes on from its last checkpoint. At the end DIR has comparison.md, .png
and .json. --doc puts the table into a document too, between the lines

    <!-- comparison: begin -->
    <!-- comparison: end -->
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import exit_status, interrupt_on_signals, tool_parser
from comparison.entries import check_data, load_entries, without_folder
from comparison.plot import write_plot
from comparison.report import (
    check_document,
    markdown,
    summarize,
    write_document,
    write_report,
)
from comparison.runs import make_runs, train

from fsdbev.utils.atomic_write import atomic_write


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--config-file", nargs="+", required=True, metavar="[NAME=]FILE", help="what is compared")
    add("--seeds", nargs="+", default=["0"], help="of the runs of each config (default: 0)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for runs and report")
    add(
        "--processes", type=int, default=1, help="runs at a time, which share the CPUs (default: 1)"
    )
    add("--doc", type=Path, help="Markdown file that gets the table too")
    add("--only-report", action="store_true", help="of what is done; no run begins")
    add("overrides", nargs="*", metavar="key=value", help="changes to all configs")
    result = parser.parse_intermixed_args(arguments)
    # overrides that stand right behind the seeds
    result.overrides += [text for text in result.seeds if "=" in text]
    result.seeds = [text for text in result.seeds if "=" not in text]
    return result


def run(args: argparse.Namespace) -> None:
    """Checks everything, does the runs that are not done, and writes the report.

    Raises:
        FileNotFoundError: a config, the data set or the folder of the document is missing.
        ValueError: an argument makes no sense, the configs or runs cannot be compared, or a run
            failed.
    """
    seeds = _checked_seeds(args)
    entries = load_entries(args.config_file, args.overrides)
    runs = make_runs(entries, seeds, args.out)
    if not args.only_report:
        check_data(entries[0])
        left = [run for run in runs if not run.is_done]
        print(f"{len(runs)} runs, {len(left)} of them to do")
        failures = train(left, args.overrides, processes=args.processes)
        if failures:
            raise ValueError("\n".join(["no report, as not every run is done:", *failures]))
    content = summarize(entries, runs, _command(args))
    with atomic_write(args.out / "comparison.json") as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")
    write_plot(content, args.out / "comparison.png")
    write_report(content, args.out / "comparison.md", picture="comparison.png")
    if args.doc:
        write_document(content, args.doc)
    print(f"\n{markdown(content)}\nwritten: {args.out / 'comparison'}.md, .png, .json")


def _checked_seeds(args: argparse.Namespace) -> list[int]:
    """The seeds, once all other arguments are right too."""
    seeds = [int(text) for text in args.seeds if text.isdecimal()]
    if len(set(seeds)) < len(args.seeds):
        raise ValueError(f"--seeds are whole numbers, each given once, got {' '.join(args.seeds)}")
    if args.processes < 1:
        raise ValueError(f"--processes start at 1, got {args.processes}")
    if args.doc:
        check_document(args.doc)
    return seeds


def _command(args: argparse.Namespace) -> str:
    """The command as others can give it, from the root of the repository."""
    first, *others = map(without_folder, args.config_file)
    lines = [
        ["python", "tools/compare.py", "--config-file", first],
        *([config] for config in others),
        ["--seeds", *args.seeds],
        ["--out", without_folder(str(args.out)), "--processes", str(args.processes)],
        list(map(without_folder, args.overrides)),
    ]
    return " \\\n    ".join(shlex.join(line) for line in lines if line)


def main(arguments: Sequence[str] | None = None) -> int:
    interrupted = "stopped; the same command goes on from here"
    return exit_status(run, parse_arguments(arguments), interrupted=interrupted)


if __name__ == "__main__":
    interrupt_on_signals()  # which ends the trainings too
    sys.exit(main())
