"""Time of the operators against their PyTorch twins and against the published algorithms.

The sides of a line are checked against each other first, and then take turns, so that whatever else
the machine does slows all of them. What counts are the ratios: "twin x" is the twin's time over
ours; what "reference" is, tools/benchmarks/reference_*.py say. "kept" is the share of frustum
points that end up in a cell. "MB" is what an ideal implementation reads and writes, and "of copy"
its rate as a share of that at which this machine copies memory, measured in the same run (in the
cache more than 100 % is possible). "-": slow, left out; --slow runs it too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from pathlib import Path
from typing import Any

import cv2
import torch

from fsdbev.layers._extension import BUILD_COMMAND, KERNEL_DEVICES
from fsdbev.utils.atomic_write import atomic_write

from . import boxes, heatmaps, lift_splat, surround_view
from .interleaved import Bench, Row, copy_bandwidth, table
from .machine import check_device, check_folder

SUBJECTS = {"lift_splat": lift_splat, "nms": boxes, "heatmaps": heatmaps}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=tuple(SUBJECTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--repeat", type=int, default=3, help="least number of repetitions")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="quick lines are repeated for so long"
    )
    parser.add_argument("--slow", action="store_true", help="leaves nothing out")
    parser.add_argument("--json", type=Path, help="file for the same rows, unrounded")
    for part in (surround_view, *SUBJECTS.values()):
        part.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Prints a table a subject; writes the rows of all.

    Raises:
        FileNotFoundError: the operators are not built for the device, or the folder of ``--json``
            does not exist.
        ValueError: there is no such device, nothing to measure, or two sides do not agree.
    """
    _check(args)
    sizes, device = surround_view.Sizes.of(args), torch.device(args.device)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    bandwidth = copy_bandwidth(device, args.repeat)
    bench = Bench(device, args.repeat, args.seconds, args.slow, bandwidth)
    machine = describe(device, args.threads, bandwidth)
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), flush=True)
    rows: dict[str, list[Row]] = {}
    for name in args.only:
        subject = SUBJECTS[name]
        print(f"\n{name}: {subject.heading(args, sizes)}", flush=True)
        found = [bench.measure(case) for case in subject.cases(args, sizes, device)]
        rows[name] = [row for of_case in found for row in of_case]
        print(table(rows[name]), flush=True)
    if args.json:
        write(args.json, machine, args, rows)


def describe(device: torch.device, threads: int, bandwidth: float) -> dict[str, Any]:
    """What the times depend on."""
    name = f"{platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {
        "device": name,
        "threads": threads,
        "torch": torch.__version__,
        "operators built for": ", ".join(KERNEL_DEVICES),
        "copying, GB/s": round(bandwidth / 1e9, 2),
        "load, processes": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def write(
    path: Path, machine: dict[str, Any], args: argparse.Namespace, rows: dict[str, list[Row]]
) -> None:
    """All that was measured, and how."""
    settings = {name: value for name, value in vars(args).items() if name not in ("run", "json")}
    records = [
        {"subject": name, **dataclasses.asdict(row)} for name, part in rows.items() for row in part
    ]
    content = {"machine": machine, "settings": settings, "rows": records}
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


def _check(args: argparse.Namespace) -> None:
    check_device(args.device)
    if args.device not in KERNEL_DEVICES:
        raise FileNotFoundError(
            f"the compiled operators are not built for {args.device}; in the project's root, run: "
            f"{BUILD_COMMAND}"
        )
    numbers = (args.threads, args.repeat, *args.batch, args.boxes)
    numbers += (args.image_boxes, args.sample_boxes)
    if min(numbers) < 1:
        raise ValueError(
            "--threads, --repeat, --batch, --boxes, --image-boxes and --sample-boxes start at 1, "
            f"got {', '.join(map(str, numbers))}"
        )
    if not all(0 < kept <= 1 for kept in args.kept):
        raise ValueError(f"--kept must be above 0 and at most 1, got {args.kept}")
    check_folder(args.json)
