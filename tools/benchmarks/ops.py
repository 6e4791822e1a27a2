"""Time of the operators against their PyTorch references and against the published algorithms.

The sides of a line are checked against each other first, and then take turns, so that other work
of the machine slows all of them. The ratios count: "reference x" is the time of the operator's
plain PyTorch reference over ours, "published x" that of the published algorithm (tests/oracles).
"-": there is no such side, or it is slow and left out; --slow runs it too.
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
    add("--only", nargs="+", choices=SUBJECTS, default=tuple(SUBJECTS))
    add("--repeat", type=int, default=3, help="rounds, in each of which every side has its turn")
    add("--seconds", type=float, default=0.5, help="least time of a side, all rounds together")
    add("--slow", action="store_true", help="leaves nothing out")
    add("--batch", type=int, nargs="+", default=(1, 8), help="samples")
    add("--views", type=int, default=6, help="cameras of a sample")
    add("--image-size", type=int, nargs=2, default=(256, 704), metavar=("H", "W"))
    add("--grid", type=int, default=128, help="cells along a side of 102.4 m")
    for subject in SUBJECTS.values():
        subject.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Prints a table a subject; writes the rows of all.

    Raises:
        FileNotFoundError: the operators are not built for the device, or the folder of ``--json``
            does not exist.
        ValueError: there is no such device, nothing to measure, or two sides do not agree.
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
    numbers = ("threads", "repeat", "batch", "views", "bins", "channels", "grid", "boxes")
    machine.check(args, *numbers, "image_boxes")
    if args.device not in KERNEL_DEVICES:
        raise FileNotFoundError(
            f"the compiled operators are not built for {args.device}; in the project's root, run: "
            f"{BUILD_COMMAND}"
        )
    if min(args.image_size) < 16:
        raise ValueError(f"--image-size starts at 16 16, got {args.image_size}")
    if not all(0 < kept <= 1 for kept in args.kept):
        raise ValueError(f"--kept must be above 0 and at most 1, got {args.kept}")
