#!/usr/bin/env python
"""Trains for some time and tells whether the memory stays flat.

    python tools/soak.py --out DIR --minutes 30 dataloader.dataroot=data/synthetic

It is the trainer of train_net.py, with the loader's workers, writers, averaged weights, rotating
checkpoints, and an evaluation at the start and every 500 iterations; key=value changes the config.
After every --every iterations it notes the memory of the training and of the loader's workers (on
Linux what is no part of a file, and what they share counts once; elsewhere the resident memory),
open files and threads.

The first fifth of the time is warm-up: caches fill, and so do the histories of the scalars (1000
iterations). Of the rest, the medians of the first and the last quarter are compared. Exit status 1:
the memory grew by more than --max-growth percent, or the files or threads became more. "allocated"
is without the gaps that malloc keeps between what is in use: a leak shows there, gaps do not.

DIR gets samples.csv, a line for each as it is taken, at the end soak.json and soak.png, and the
training's own output in DIR/train, which must not be there before. On a busy machine take more
minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

# ruff: noqa: E402  after the path is set, for use without installation
from command_line import exit_status
from soaking.growth import Sample, growth, write_picture
from soaking.processes import allocated, total, usage_of_all

from fsdbev.d2.engine import HookBase, default_argument_parser, default_setup
from fsdbev.engine import Trainer, load_config
from fsdbev.utils.atomic_write import atomic_write

#: Share of the time that does not count.
WARM_UP = 0.2

#: What a soak changes in a config: it never ends by itself, and does often what may leave traces.
OVERRIDES = (
    "train.max_iter=1000000",
    "train.eval_period=500",
    "train.checkpointer.period=50",
    "train.checkpointer.max_to_keep=3",
    "dataloader.train.num_workers=2",
)


class TimeIsUp(BaseException):
    """Ends a training from inside of it; no error, so that the trainer does not log one."""


class Watcher(HookBase):
    """Samples after every few iterations, into a file too, and ends the training in time."""

    def __init__(self, path: Path, *, every: int, seconds: float) -> None:
        self._path = path
        self._every = every
        self._seconds = seconds
        self.samples: list[Sample] = []

    def before_train(self) -> None:
        self._start = time.monotonic()
        # the first evaluation imports much, and its tables are the largest thing there is
        self.trainer.test(self.trainer.cfg, self.trainer.eval_model)
        self._file = open(self._path, "w", newline="", encoding="utf-8")
        self._rows = csv.DictWriter(self._file, [field.name for field in fields(Sample)])
        self._rows.writeheader()

    def after_train(self) -> None:
        self._file.close()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        passed = time.monotonic() - self._start
        if done % self._every == 0:
            self.samples.append(take_sample(passed, done))
            self._rows.writerow(asdict(self.samples[-1]))
            self._file.flush()
        if passed >= self._seconds:
            raise TimeIsUp


def take_sample(seconds: float, iteration: int) -> Sample:
    main, workers = usage_of_all()
    everyone = [main, *workers]
    measure = "rss" if total(everyone, "own") is None else "own"
    return Sample(
        seconds,
        iteration,
        total(everyone, measure),
        total([main], measure),
        total(workers, measure),
        total(everyone, "rss"),
        total(everyone, "uss"),
        allocated(),
        main.files,
        main.threads,
    )


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="configs/fsdbev_tiny_synthetic.py")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for what it finds")
    add("--minutes", type=float, default=30, help="of training (default: 30)")
    add("--every", type=int, default=1, help="iterations from sample to sample (default: 1)")
    add("--max-growth", type=float, default=1.0, help="percent (default: 1)")
    add("overrides", nargs="*", metavar="key=value", help="changes to the config")
    return parser.parse_intermixed_args(arguments)


def run(args: argparse.Namespace) -> None:
    """Trains, writes the files and prints the statement.

    Raises:
        FileNotFoundError: the config or its data is missing.
        ValueError: an argument makes no sense, there are too few samples, or something grew.
    """
    output = args.out / "train"
    if args.minutes <= 0 or args.every < 1 or args.max_growth < 0:
        raise ValueError(
            "--minutes are positive, --every starts at 1 and --max-growth at 0, got "
            f"{args.minutes}, {args.every} and {args.max_growth}"
        )
    if output.exists():
        raise ValueError(f"{output} is there already: take another --out, or move it away")
    samples = train(args, output)
    if not samples:
        raise ValueError(f"no {args.every} iterations in {args.minutes} minutes: take more minutes")
    found = write(args, samples)
    print("\n".join(lines(samples, found)))
    grown = too_much(found, args.max_growth)
    if grown:
        raise ValueError(f"{' and '.join(grown)} grew after warm-up: see {args.out / 'soak.png'}")


def train(args: argparse.Namespace, output: Path) -> list[Sample]:
    """The samples of a training that ends when its time is up."""
    overrides = [*OVERRIDES, f"train.output_dir={json.dumps(str(output))}", *args.overrides]
    cfg = load_config(args.config_file, overrides)
    options = ["--config-file", args.config_file, *overrides]
    default_setup(cfg, default_argument_parser().parse_args(options))
    trainer = Trainer(cfg)
    watcher = Watcher(args.out / "samples.csv", every=args.every, seconds=60 * args.minutes)
    trainer.register_hooks([watcher])
    with contextlib.suppress(TimeIsUp):
        trainer.train()
    return watcher.samples


def write(args: argparse.Namespace, samples: list[Sample]) -> dict[str, dict]:
    """Writes picture and numbers; returns first, last and percent by name."""
    names = ("memory", "main", "workers", "rss", "uss", "allocated", "files", "threads")
    grown = {name: growth(samples, name, warm_up=WARM_UP) for name in names}
    found = {name: {**asdict(one), "percent": one.percent} for name, one in grown.items() if one}
    title = f"{samples[-1].iteration} iterations, {samples[-1].seconds / 60:.0f} minutes: "
    title += f"memory {found['memory']['percent']:+.2f} % after warm-up"
    write_picture(samples, args.out / "soak.png", warm_up=WARM_UP, title=title)
    setting = {"config": args.config_file, "overrides": [*OVERRIDES, *args.overrides]}
    content = {"setting": setting, "warm_up": WARM_UP, "growth": found}
    with atomic_write(args.out / "soak.json") as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
    return found


def lines(samples: list[Sample], found: dict[str, dict]) -> list[str]:
    """The statement, a line a quantity."""
    last = samples[-1]
    text = [
        f"{last.iteration} iterations in {last.seconds / 60:.1f} minutes, {len(samples)} samples"
    ]
    text.append("median of the first and last quarter after warm-up:")
    for name, one in found.items():
        unit, scale = ("", 1) if name in ("files", "threads") else (" MiB", 2**20)
        first, end = (f"{one[key] / scale:.1f}{unit}" for key in ("first", "last"))
        text.append(f"  {name:9} {first:>12} -> {end:>12}  {one['percent']:+.2f} %")
    return text


def too_much(found: dict[str, dict], max_growth: float) -> list[str]:
    """Names of what grew more than it may."""
    limits = {"memory": max_growth, "files": 0.0, "threads": 0.0}
    return [name for name, most in limits.items() if found.get(name, {}).get("percent", 0) > most]


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_status(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
