#!/usr/bin/env python
"""Soak test: trains for some time and checks that memory, open files and threads do not grow.

    python tools/soak.py --out DIR --minutes 30 dataloader.dataroot=data/synthetic

The tool runs the trainer of train_net.py with loader workers, writers, averaged weights, rotating
checkpoints, and an evaluation at the start and every 500 iterations; key=value changes the config.
Every --every iterations it samples open files, threads and the memory of the training process and
the loader's workers. On Linux this is memory that belongs to no file, with shared memory counted
once; on other systems it is memory that is not shared.

The first fifth of the time is warm-up, in which caches and the histories of scalars (1000
iterations) fill up. The medians of the first and the last quarter of the remaining time are
compared. The exit status is 1 if memory grew by more than --max-growth percent, or if the number
of files or threads grew. "allocated" excludes free gaps in malloc's heap: leaks appear there,
fragmentation does not.

DIR gets samples.csv, written during the training, soak.json and soak.png at the end, and the output
of the training in DIR/train, which must not exist before. On a busy machine, use more minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gc
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil
from command_line import exit_status, tool_parser
from matplotlib.figure import Figure

from fsdbev.config import load_config
from fsdbev.d2.engine import HookBase, default_argument_parser, default_setup
from fsdbev.engine import Trainer
from fsdbev.utils.atomic_write import atomic_write

#: Warm-up as a fraction of the time.
WARM_UP = 0.2
#: Least number of samples in a quarter.
_MIN_SAMPLES = 3
MIB = 2**20

#: Changes to the config: no end by itself, and frequent operations that could leak.
OVERRIDES = (
    "train.max_iter=1000000",
    "train.eval_period=500",
    "train.checkpointer.period=50",
    "train.checkpointer.max_to_keep=3",
    "dataloader.train.num_workers=2",
)
#: Lines of the plot: label by quantity.
_LINES = {"memory": "all", "main": "training process", "workers": "loader's workers"}

#: One sample: seconds and iteration; bytes of all processes (memory, rss, uss), of the training
#: process (main, allocated) and of its workers; files and threads of the training process.
Sample = dict[str, float]
#: Values of all samples by quantity.
Series = Mapping[str, np.ndarray]


class TimeIsUp(BaseException):
    """Ends a training from a hook.

    Not an Exception, because the trainer logs those as errors.
    """


class Watcher(HookBase):
    """Hook that samples every few iterations and ends the training when its time is up.

    Args:
        path: CSV file for the samples.
        every: iterations between two samples.
        seconds: duration of the training.
    """

    def __init__(self, path: Path, *, every: int, seconds: float) -> None:
        self._path = path
        self._every = every
        self._seconds = seconds
        self.samples: list[Sample] = []

    def before_train(self) -> None:
        self._start = time.monotonic()
        # The first evaluation imports modules and reads tables, which would look like a leak later.
        self.trainer.test(self.trainer.cfg, self.trainer.eval_model)
        self._file = open(self._path, "w", newline="", encoding="utf-8")
        self._rows = csv.DictWriter(self._file, take_sample(0.0, 0))
        self._rows.writeheader()

    def after_train(self) -> None:
        self._file.close()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        passed = time.monotonic() - self._start
        if done % self._every == 0:
            self.samples.append(take_sample(passed, done))
            self._rows.writerow(self.samples[-1])
            self._file.flush()
        if passed >= self._seconds:
            raise TimeIsUp


def take_sample(seconds: float, iteration: int) -> Sample:
    """Measures memory, files and threads of this process and its children."""
    # Uncollected garbage would make samples noisy.
    gc.collect()
    process, heap = psutil.Process(), psutil.heap_info()
    main, workers = _memory(process), []
    for child in process.children(recursive=True):
        # A child may end between the listing and the measurement.
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            workers.append(_memory(child))
    return {
        "seconds": seconds,
        "iteration": iteration,
        "memory": sum(one["memory"] for one in (main, *workers)),
        "main": main["memory"],
        "workers": sum(one["memory"] for one in workers),
        "rss": sum(one["rss"] for one in (main, *workers)),
        "uss": sum(one["uss"] for one in (main, *workers)),
        "allocated": heap.heap_used + heap.mmap_used,
        "files": process.num_fds(),
        "threads": process.num_threads(),
    }


def _memory(process: psutil.Process) -> dict[str, int]:
    """Measures the bytes of a process: ``rss`` (resident), ``uss`` (unshared) and ``memory``.

    ``memory`` is the part of PSS that belongs to no file, or USS where Linux does not report it.
    PSS counts memory shared by n processes as 1/n in each.
    """
    # Pages of files are excluded, since they come and go with other programs that read the files.
    # psutil reports only the whole PSS, so the parts are read from /proc.
    info = process.memory_full_info()
    rollup = Path(f"/proc/{process.pid}/smaps_rollup")
    text = rollup.read_text() if rollup.exists() else ""
    sizes = re.findall(r"^(?:Pss_Anon|Pss_Shmem|SwapPss): +(\d+) kB", text, re.MULTILINE)
    memory = 1024 * sum(map(int, sizes)) if len(sizes) == 3 else info.uss
    return {"rss": info.rss, "uss": info.uss, "memory": memory}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add = parser.add_argument
    config = "configs/fsdbev_tiny_synthetic.py"
    add("--config-file", default=config, help="config file (default: %(default)s)")
    add("--out", type=Path, required=True, metavar="DIR", help="output folder")
    add("--minutes", type=float, default=30, help="minutes of training (default: 30)")
    add("--every", type=int, default=1, help="iterations between samples (default: 1)")
    limit = "largest growth of memory in percent (default: 1)"
    add("--max-growth", type=float, default=1.0, help=limit)
    add("overrides", nargs="*", metavar="key=value", help="changes to the config")
    return parser.parse_intermixed_args(arguments)


def run(args: argparse.Namespace) -> None:
    """Trains, writes the files and prints the result.

    Raises:
        FileNotFoundError: the config or its data is missing.
        ValueError: an argument is invalid, there are too few samples, or a quantity grew.
    """
    output = args.out / "train"
    if args.minutes <= 0 or args.every < 1 or args.max_growth < 0:
        raise ValueError(
            "--minutes must be positive, --every at least 1 and --max-growth at least 0, got "
            f"{args.minutes}, {args.every} and {args.max_growth}"
        )
    if output.exists():
        raise ValueError(f"{output} already exists: use another --out, or move it away")
    samples = train(args, output)
    if not samples:
        raise ValueError(f"no {args.every} iterations in {args.minutes} minutes: use more minutes")
    series = {name: np.array([sample[name] for sample in samples]) for name in samples[0]}
    found = write(args, series)
    print("\n".join(lines(series, found)))
    if grown := too_much(found, args.max_growth):
        raise ValueError(f"{' and '.join(grown)} grew after warm-up: see {args.out / 'soak.png'}")


def train(args: argparse.Namespace, output: Path) -> list[Sample]:
    """Trains until the time is up and returns the samples."""
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


def growth(seconds: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Compares the first and the last quarter of the time after warm-up.

    Args:
        seconds: times of the samples.
        values: values of the samples.

    Returns:
        Medians ``first`` and ``last`` of the quarters, and the growth in ``percent``.

    Raises:
        ValueError: a quarter has too few samples.
    """
    begin, end = WARM_UP * seconds[-1], seconds[-1]
    quarter = (end - begin) / 4
    first = values[(seconds >= begin) & (seconds < begin + quarter)]
    last = values[seconds >= end - quarter]
    if min(len(first), len(last)) < _MIN_SAMPLES:
        raise ValueError(
            f"{len(first)} and {len(last)} samples in the first and last quarter after warm-up are "
            f"too few: at least {_MIN_SAMPLES} are needed; use more --minutes or a smaller --every"
        )
    before, after = float(np.median(first)), float(np.median(last))
    percent = 100 * (after / before - 1) if before else 0.0
    return {"first": before, "last": after, "percent": percent}


def write(args: argparse.Namespace, series: Series) -> dict[str, dict[str, float]]:
    """Writes plot and numbers; returns the :func:`growth` of each quantity."""
    seconds = series["seconds"]
    quantities = [name for name in series if name not in ("seconds", "iteration")]
    found = {name: growth(seconds, series[name]) for name in quantities}
    title = f"{series['iteration'][-1]} iterations, {seconds[-1] / 60:.0f} minutes: "
    title += f"memory {found['memory']['percent']:+.2f} % after warm-up"
    with atomic_write(args.out / "soak.png") as file:
        draw(series, found, title).savefig(file, format="png", dpi=130)
    setting = {"config": args.config_file, "overrides": [*OVERRIDES, *args.overrides]}
    content = {"setting": setting, "warm_up": WARM_UP, "growth": found}
    with atomic_write(args.out / "soak.json") as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")
    return found


def draw(series: Series, found: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Draws memory over time at the top, and its change since the first quarter at the bottom."""
    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = series["seconds"] / 60
    start = WARM_UP * minutes[-1]
    changes = {name: (series[name] - found[name]["first"]) / MIB for name in _LINES}
    for name, label in _LINES.items():
        above.plot(minutes, series[name] / MIB, linewidth=1.4, label=label)
        below.plot(minutes, changes[name], linewidth=1.0, alpha=0.85)
    # Single peaks and the rise during warm-up would flatten the curves.
    counted = np.concatenate([values[minutes >= start] for values in changes.values()])
    lowest, highest = np.quantile(counted, (0.002, 0.998))
    room = 0.1 * (highest - lowest) or 1.0
    below.set_ylim(lowest - room, highest + room)
    above.set_ylim(bottom=0)
    above.set_ylabel("memory (MiB)")
    below.set_ylabel("change (MiB) since\nthe first quarter's median")
    below.set_xlabel("minutes; grey: warm-up, not evaluated")
    for axes in (above, below):
        axes.axvspan(0, start, color="#F1F3F5", zorder=0)
        axes.set_xlim(left=0)
        axes.grid(color="#D8DEE4", linewidth=0.8)
        axes.spines[:].set_visible(False)
    above.legend(frameon=False, loc="lower right")
    figure.suptitle(title, fontsize=10)
    return figure


def lines(series: Series, found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Formats the result with one line per quantity."""
    minutes = series["seconds"][-1] / 60
    text = [
        f"{series['iteration'][-1]} iterations in {minutes:.1f} minutes, "
        f"{len(series['seconds'])} samples",
        "median of the first and last quarter after warm-up:",
    ]
    for name, one in found.items():
        unit, scale = ("", 1) if name in ("files", "threads") else (" MiB", MIB)
        first, last = (f"{one[key] / scale:.1f}{unit}" for key in ("first", "last"))
        text.append(f"  {name:9} {first:>12} -> {last:>12}  {one['percent']:+.2f} %")
    return text


def too_much(found: Mapping[str, Mapping[str, float]], max_growth: float) -> list[str]:
    """Returns the quantities that grew more than allowed."""
    limits = {"memory": max_growth, "files": 0.0, "threads": 0.0}
    return [name for name, most in limits.items() if found[name]["percent"] > most]


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_status(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
