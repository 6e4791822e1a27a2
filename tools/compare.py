#!/usr/bin/env python
"""Trains and evaluates configs on the same data with the same seeds, and compares the results.

    python tools/compare.py --config-file A.py NAME=B.py ... --seeds 0 1 2 --out DIR \\
        [--processes 2] [--doc FILE.md] [--only-report] [key=value ...]

Each config is trained once per seed in DIR/NAME/seedS; key=value applies to every run. Configs with
another number of iterations or other data are refused. The same command continues an interrupted
comparison: it keeps complete runs and resumes others from their last checkpoint. The report is
written to comparison.md, .png and .json in DIR. --doc also writes it into a document, between the
lines

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
    add("--config-file", nargs="+", required=True, metavar="[NAME=]FILE", help="configs to compare")
    add("--seeds", nargs="+", default=["0"], help="seeds for each config (default: 0)")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for runs and report")
    processes = "number of simultaneous runs, which share the CPUs (default: 1)"
    add("--processes", type=int, default=1, help=processes)
    add("--doc", type=Path, help="Markdown file to write the table into")
    add("--only-report", action="store_true", help="report complete runs and start no run")
    add("overrides", nargs="*", metavar="key=value", help="changes to all configs")
    result = parser.parse_intermixed_args(arguments)
    # --seeds takes any number of values, so that overrides right after it end up there.
    result.overrides += [text for text in result.seeds if "=" in text]
    result.seeds = [text for text in result.seeds if "=" not in text]
    return result


def run(args: argparse.Namespace) -> None:
    """Checks all arguments, executes missing runs, and writes the report.

    Raises:
        FileNotFoundError: a config, the data set or the folder of the document is missing.
        ValueError: an argument is invalid, the configs or runs cannot be compared, or a run failed.
    """
    seeds = _checked_seeds(args)
    entries = load_entries(args.config_file, args.overrides)
    runs = make_runs(entries, seeds, args.out)
    if not args.only_report:
        check_data(entries[0])
        missing = [run for run in runs if not run.is_done]
        print(f"{len(runs)} runs, {len(missing)} to execute")
        failures = train(missing, args.overrides, processes=args.processes)
        if failures:
            raise ValueError(
                "\n".join(["no report, because not every run is complete:", *failures])
            )
    content = summarize(entries, runs, _command(args))
    with atomic_write(args.out / "comparison.json") as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")
    write_plot(content, args.out / "comparison.png")
    write_report(content, args.out / "comparison.md", picture="comparison.png")
    if args.doc:
        write_document(content, args.doc)
    print(f"\n{markdown(content)}\nwrote {args.out / 'comparison'}.md, .png, .json")


def _checked_seeds(args: argparse.Namespace) -> list[int]:
    """Returns the seeds after checking them and the other arguments."""
    seeds = [int(text) for text in args.seeds if text.isdecimal()]
    if len(set(seeds)) < len(args.seeds):
        raise ValueError(f"--seeds must be different whole numbers, got {' '.join(args.seeds)}")
    if args.processes < 1:
        raise ValueError(f"--processes must be at least 1, got {args.processes}")
    if args.doc:
        check_document(args.doc)
    return seeds


def _command(args: argparse.Namespace) -> str:
    """Returns the command for the report, without folders of this machine."""
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
    interrupted = "interrupted; run the same command again to continue"
    return exit_status(run, parse_arguments(arguments), interrupted=interrupted)


if __name__ == "__main__":
    # A signal then ends the processes of the runs too.
    interrupt_on_signals()
    sys.exit(main())
