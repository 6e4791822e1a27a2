#!/usr/bin/env python
"""Trains and evaluates configs on the same data with the same seeds, and compares the results.

    python tools/compare.py --config-file [NAME=]FILE ... --seeds 0 1 2 --out DIR \\
        [--records DIR] [--processes 2] [key=value ...]
    python tools/compare.py --report NAME ... [--pairs NAME1:NAME2 ...] --records DIR \\
        [--doc FILE.md] [--plot FILE.png]

Each config is trained once per seed in DIR/NAME/seedS; key=value applies to every run. Configs with
another number of iterations or other data are refused. A complete run is added to the record of its
config, RECORDS/NAME.json, which has its settings, metrics, seconds and versions. The same command
continues an interrupted comparison: it skips recorded runs, in any clone that has the records, and
resumes others from their last checkpoint in DIR.

The report is made from the records; --report makes it without training. It has the metrics of each
config over all recorded seeds, also those of earlier commands, with 95 % intervals, and the
difference of each pair, also by class: NAME1:NAME2 is NAME1 minus NAME2. --doc also writes the
report into a document, between the lines

    <!-- comparison: begin -->
    <!-- comparison: end -->
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import exit_status, interrupt_on_signals, tool_parser
from comparison.entries import check_data, load_entries
from comparison.plot import write_plot
from comparison.report import check_document, markdown, summarize, write_document
from comparison.runs import make_runs, train


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    configs = "configs to train and compare"
    what.add_argument("--config-file", nargs="+", metavar="[NAME=]FILE", help=configs)
    what.add_argument("--report", nargs="+", metavar="NAME", help="configs to report from records")
    add("--seeds", nargs="+", default=["0"], help="seeds for each config (default: 0)")
    runs = "folder of the runs (default: output/comparison)"
    add("--out", type=Path, default=Path("output/comparison"), metavar="DIR", help=runs)
    records = "folder of the records of complete runs (default: OUT/records)"
    add("--records", type=Path, metavar="DIR", help=records)
    processes = "number of simultaneous runs, which share the CPUs (default: 1)"
    add("--processes", type=int, default=1, help=processes)
    pairs = "differences to report, of the first config over the second"
    add("--pairs", nargs="+", default=[], metavar="NAME:NAME", help=pairs)
    add("--doc", type=Path, help="Markdown file to write the tables into")
    add("--plot", type=Path, metavar="FILE.png", help="chart of the intervals to write")
    add("overrides", nargs="*", metavar="key=value", help="changes to all configs")
    result = parser.parse_intermixed_args(arguments)
    # Options with any number of values also take the overrides right after them.
    for name in ("seeds", "pairs"):
        values = getattr(result, name)
        result.overrides += [text for text in values if "=" in text]
        setattr(result, name, [text for text in values if "=" not in text])
    # In the order of the command line: of two overrides of a key the last one counts.
    given = sys.argv[1:] if arguments is None else arguments
    result.overrides = [text for text in given if text in result.overrides]
    return result


def run(args: argparse.Namespace) -> None:
    """Checks all arguments, executes missing runs if configs are given, and reports.

    Raises:
        FileNotFoundError: a config, the data set or the folder of the document is missing.
        ValueError: an argument is invalid, the configs or runs cannot be compared, or a run failed.
    """
    seeds = _checked_seeds(args.seeds)
    _check_options(args)
    records = args.records or args.out / "records"
    entries = [] if args.report else load_entries(args.config_file, args.overrides)
    names = args.report or [entry.name for entry in entries]
    pairs = _checked_pairs(args.pairs, names)
    if entries:
        check_data(entries[0])
        runs = make_runs(entries, seeds, args.out, records)
        missing = [run for run in runs if not run.is_done]
        print(f"{len(runs)} runs, {len(missing)} to execute")
        failures = train(missing, args.overrides, processes=args.processes)
        if failures:
            raise ValueError(
                "\n".join(["no report, because not every run is complete:", *failures])
            )
    content = summarize(records, names, pairs)
    if args.plot:
        write_plot(content, args.plot)
    if args.doc:
        write_document(content, args.doc)
    print(markdown(content))


def _checked_seeds(texts: Sequence[str]) -> list[int]:
    """Converts and checks the seeds."""
    seeds = [int(text) for text in texts if text.isdecimal()]
    if not seeds or len(set(seeds)) < len(texts):
        raise ValueError(f"--seeds must be different whole numbers, got {' '.join(texts)}")
    return seeds


def _check_options(args: argparse.Namespace) -> None:
    """Checks the other options, before hours of training."""
    if args.report and args.overrides:
        raise ValueError(f"--report trains nothing: remove {' '.join(args.overrides)}")
    if args.processes < 1:
        raise ValueError(f"--processes must be at least 1, got {args.processes}")
    if args.plot and not args.plot.absolute().parent.is_dir():
        raise FileNotFoundError(f"--plot: no folder {args.plot.absolute().parent}; create it first")
    if args.doc:
        check_document(args.doc)


def _checked_pairs(texts: Sequence[str], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Splits NAME:NAME and checks both names."""
    pairs = []
    for text in texts:
        pair = tuple(text.split(":"))
        if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(names):
            raise ValueError(f"--pairs: {text!r} is not NAME:NAME of {', '.join(names)}")
        pairs.append(pair)
    return pairs


def main(arguments: Sequence[str] | None = None) -> int:
    interrupted = "interrupted; run the same command again to continue"
    return exit_status(run, parse_arguments(arguments), interrupted=interrupted)


if __name__ == "__main__":
    # A signal then ends the processes of the runs too.
    interrupt_on_signals()
    sys.exit(main())
