"""Time of the compiled lift_splat against its PyTorch twin, in one run on one machine.

Each row is one share of frustum points that take part; times are the median of the repetitions.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fsdbev.layers import EXTENSION_BUILT, lift_splat, lift_splat_reference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--views", type=int, default=6)
    parser.add_argument("--bins", type=int, default=118)
    parser.add_argument("--channels", type=int, default=80)
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 704))
    parser.add_argument("--grid", type=int, default=128)
    parser.add_argument("--sets", type=int, default=1)
    parser.add_argument("--kept", type=float, nargs="+", default=(0.02, 0.7))
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--repeat", type=int, default=7)


def run(args: argparse.Namespace) -> None:
    """Prints the table.

    Raises:
        FileNotFoundError: the operators are not built.
    """
    if not EXTENSION_BUILT:
        raise FileNotFoundError("the compiled operators are not built; see README.md")
    print("threads  kept  pass      compiled ms   PyTorch ms   ratio")
    for threads in args.threads:
        torch.set_num_threads(threads)
        for kept in args.kept:
            arguments = surround_view(args, kept)
            compiled, twin = medians((lift_splat, lift_splat_reference), arguments, args.repeat)
            for name, a, b in zip(("forward", "backward"), compiled, twin):
                print(f"{threads:7d}  {kept:4.2f}  {name:8s}  {a:11.1f}  {b:11.1f}  {b / a:6.1f}")


def surround_view(args: argparse.Namespace, kept: float) -> dict:
    """Arguments of ``lift_splat``: a ring of cameras, a grid of 102.4 m, masks keep ``kept``."""
    height, width = args.image_size
    generator = torch.Generator().manual_seed(0)
    image2bev = torch.eye(4).repeat(args.views, 1, 1)
    for i in range(args.views):
        yaw = 2 * math.pi * i / args.views
        forward, right = (math.cos(yaw), math.sin(yaw), 0.0), (math.sin(yaw), -math.cos(yaw), 0.0)
        axes = torch.tensor([right, (0.0, 0.0, -1.0), forward]).T
        focal = 0.8 * width
        unproject = torch.tensor(
            [[1 / focal, 0, -width / 2 / focal], [0, 1 / focal, -height / 2 / focal], [0, 0, 1]]
        )
        image2bev[i, :3, :3] = axes @ unproject
        image2bev[i, :3, 3] = torch.tensor([*(1.0 * axes[:2, 2]), 1.5])
    shape = (args.sets, args.views, args.bins, height // 16, width // 16)
    scores = torch.rand(shape, generator=generator)
    return dict(
        weights=torch.where(scores < kept, 0.5 + scores, 0.0),
        foreground=torch.ones(shape[:2] + shape[3:]),
        context=torch.randn(args.views, args.channels, *shape[3:], generator=generator),
        undo_image_aug=torch.eye(4).repeat(args.views, 1, 1),
        image2bev=image2bev,
        view=torch.arange(args.views),
        output=torch.zeros(args.views, dtype=torch.int64),
        num_outputs=1,
        image_size=(height, width),
        depth_start=1.0,
        depth_step=59.0 / args.bins,
        lower=(-51.2, -51.2, -5.0),
        size=(102.4 / args.grid, 102.4 / args.grid, 8.0),
        count=(args.grid, args.grid, 1),
        depth_threshold=1 / args.bins,
        foreground_threshold=0.1,
    )


def forward_backward(op: Callable[..., Tensor], arguments: dict) -> tuple[float, float]:
    """Seconds of one forward and one backward pass."""
    weights = arguments["weights"].clone().requires_grad_()
    context = arguments["context"].clone().requires_grad_()
    start = time.perf_counter()
    bev = op(**{**arguments, "weights": weights, "context": context})
    middle = time.perf_counter()
    bev.backward(torch.ones_like(bev))
    return middle - start, time.perf_counter() - middle


def medians(
    ops: Sequence[Callable[..., Tensor]], arguments: dict, repeat: int
) -> list[list[float]]:
    """Median milliseconds of forward and backward of each operator, after one warm-up. They take
    turns, so that whatever else the machine does slows all of them."""
    times = [[forward_backward(op, arguments) for op in ops] for _ in range(1 + repeat)][1:]
    return [[1000 * statistics.median(column) for column in zip(*rows)] for rows in zip(*times)]
