"""Times of the operators, of their PyTorch references and of the published algorithms.

The implementations in a row are first checked to agree. They then run in turns, so that other load
on the machine slows down all of them. Compare the ratios: "reference x" is the time of the plain
PyTorch reference divided by the time of the operator, "published x" the same for the published
algorithm (tests/oracles). "-" marks implementations that do not exist or are too slow; --slow runs
slow ones too.
"""

from __future__ import annotations

import argparse
from typing import Any

import cv2
import torch

from fsdbev.layers._extension import BUILD_COMMAND, KERNEL_DEVICES

from . import boxes, heatmaps, lift_splat, machine
from .turns import measure

SUBJECTS = {"lift_splat": lift_splat, "nms": boxes, "heatmaps": heatmaps}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    machine.add_arguments(parser)
    add = parser.add_argument
    add("--only", nargs="+", choices=SUBJECTS, default=tuple(SUBJECTS), help="default: all")
    add(
        "--repeat", type=int, default=3, help="rounds in which all implementations run (default: 3)"
    )
    seconds = "least time of an implementation over all rounds (default: 0.5)"
    add("--seconds", type=float, default=0.5, help=seconds)
    add("--slow", action="store_true", help="also run slow implementations")
    add("--batch", type=int, nargs="+", default=(1, 8), help="batch sizes (default: 1 8)")
    add("--views", type=int, default=6, help="cameras of a sample (default: 6)")
    size = {"type": int, "nargs": 2, "default": (256, 704), "metavar": ("H", "W")}
    add("--image-size", **size, help="network image (default: 256 704)")
    add("--grid", type=int, default=128, help="cells along a side of 102.4 m (default: 128)")
    for subject in SUBJECTS.values():
        subject.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Prints one table per group of operators and writes all rows.

    Raises:
        FileNotFoundError: the operators are not built for the device, or the folder of ``--json``
            does not exist.
        ValueError: the device does not exist, a number is invalid, or two implementations disagree.
    """
    _check(args)
    device = torch.device(args.device)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    about = machine.describe(args.device)
    machine.show(about)
    rows: list[dict[str, Any]] = []
    for name in args.only:
        found = []
        for case in SUBJECTS[name].cases(args, device):
            rounds, seconds = [case] * args.repeat, args.seconds / args.repeat
            found += measure(rounds, seconds=seconds, slow=args.slow)
        print(f"\n{name}\n{machine.table(found)}", flush=True)
        rows += found
    machine.write_json(args, about, rows=rows)


def _check(args: argparse.Namespace) -> None:
    """Checks the arguments and that the operators are built."""
    numbers = ("threads", "repeat", "batch", "views", "bins", "channels", "grid", "boxes")
    machine.check(args, *numbers, "image_boxes")
    if args.device not in KERNEL_DEVICES:
        raise FileNotFoundError(
            f"the compiled operators are not built for {args.device}; in the project's root, run: "
            f"{BUILD_COMMAND}"
        )
    if min(args.image_size) < 16:
        raise ValueError(f"--image-size must be at least 16 16, got {args.image_size}")
    if not all(0 < kept <= 1 for kept in args.kept):
        raise ValueError(f"--kept must be above 0 and at most 1, got {args.kept}")
