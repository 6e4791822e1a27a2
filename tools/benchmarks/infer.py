"""Time of inference: all frames of a sample against a stream that keeps image features.

A made-up drive (fsdbev/data/made_up.py) and random weights; the two sides take turns, sample by
sample, and must find the same boxes. The first sample warms both up and is not counted. GMACs are
counted of one sample (tools/analyze_model.py); "of peak" is the rate at which they are done as a
share of that of a large matrix product in the same precision and the same run. Memory is the most
that the process has (CPU: resident, Linux only; GPU: allocated) while a side is at work, weights
included. "CPU ms": processor time of all threads, which a busy machine distorts less. Layout and
compilation of the model are those of the config: train.channels_last=True.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from fsdbev.d2.config import instantiate
from fsdbev.d2.structures import Instances
from fsdbev.data.made_up import made_up_drive
from fsdbev.engine import load_config
from fsdbev.engine.analysis import analyze
from fsdbev.engine.model import build_model
from fsdbev.engine.streaming import StreamingPredictor
from fsdbev.layers._extension import KERNEL_DEVICES
from fsdbev.utils.atomic_write import atomic_write

from .machine import (
    check_device,
    check_folder,
    matrix_rate,
    now,
    peak_memory,
    reset_peak_memory,
)

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
ALL, STREAM = "all frames", "stream"
#: Boxes are the same within this, metres and radians and m/s, and scores within a tenth of it.
_TOLERANCE = 1e-2
_LEAST_SAME = 0.99


@dataclass
class Side:
    """One way to compute a sample.

    Attributes:
        predict: list of one sample -> list of its detections.
        gmacs: of one sample.
        seconds, cpu_seconds: of every sample.
        megabytes: peak memory over all samples; None where it cannot be told.
    """

    predict: Callable[[list[dict]], list[dict[str, Instances]]]
    gmacs: float
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    megabytes: float | None = None


@dataclass(frozen=True)
class Row:
    """What was measured of a side, medians over samples; ``ratio``: all frames over this side."""

    side: str
    milliseconds: float
    cpu_milliseconds: float
    ratio: float
    cpu_ratio: float
    gmacs: float
    gmacs_per_second: float
    peak_share: float
    megabytes: float | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", default="configs/fsdbev_r50_cbgs.py")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of autocast")
    parser.add_argument("--frames", type=int, default=6, help="samples to time")
    parser.add_argument("--cameras", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--json", type=Path, help="file for the same rows, unrounded")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config")


def run(args: argparse.Namespace) -> None:
    """Prints a table with a row a side; writes the rows.

    Raises:
        FileNotFoundError: there is no such config, or ``--json`` is in no folder.
        ValueError: there is no such device, nothing to measure, or the sides do not agree.
    """
    _check(args)
    torch.set_num_threads(args.threads)
    overrides = [*args.overrides, f"train.device={args.device}"]
    cfg = load_config(args.config_file, overrides)
    sides = make_sides(cfg, args.cameras)
    device = torch.device(args.device)
    drive = made_up_drive(
        num_frames=cfg.model.num_frames,
        num_cameras=args.cameras,
        image_size=tuple(cfg.dataloader.image_size),
    )
    peak, same = measure(sides, islice(drive, args.frames + 1), device, args.precision)
    rows = as_rows(sides, peak)
    settings = {**describe(args, cfg, peak), "same boxes": f"{100 * same:.2f} %"}
    print("\n".join(f"{name}: {value}" for name, value in settings.items()), flush=True)
    print(f"\n{table(rows)}", flush=True)
    if args.json:
        content = {"settings": settings, "rows": [asdict(row) for row in rows]}
        with atomic_write(args.json) as file:
            file.write(json.dumps(content, indent=2).encode())


def make_sides(cfg: DictConfig, cameras: int) -> dict[str, Side]:
    """The model of a config with random weights, and its stream."""
    height, width = cfg.dataloader.image_size
    cost = analyze(instantiate(cfg.model), image_size=(height, width), num_cameras=cameras)
    torch.manual_seed(0)
    model: nn.Module = build_model(cfg).eval()
    return {
        ALL: Side(model, cost.total.macs / 1e9),
        STREAM: Side(StreamingPredictor(model), sum(cost.stream_macs().values()) / 1e9),
    }


@torch.no_grad()
def measure(
    sides: dict[str, Side], drive: Iterator[dict], device: torch.device, precision: str
) -> tuple[float, float]:
    """Runs every sample through all sides, which take turns in being first.

    Returns:
        the machine's peak, GMAC/s: the best of the matrix products after every sample;
        the least share of a sample's boxes that are the same.

    Raises:
        ValueError: too few are.
    """
    dtype = PRECISIONS[precision]
    peaks, shares = [], []
    for number, sample in enumerate(drive):
        names, found = list(sides), {}
        for name in names if number % 2 else names[::-1]:
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                found[name] = run_once(sides[name], sample, device, counts=number > 0)
        shares.append(share_of_same_boxes(found[STREAM], found[ALL]))
        if shares[-1] < _LEAST_SAME:
            raise ValueError(
                f"sample {number}: {100 * shares[-1]:.1f} % of the boxes are the same, so the "
                "times mean nothing"
            )
        peaks.append(matrix_rate(device, dtype or torch.float32))
    return max(peaks), min(shares)


def run_once(side: Side, sample: dict, device: torch.device, *, counts: bool) -> Instances:
    """What a side finds in a sample; measures it if it counts."""
    reset_peak_memory(device)
    begin, cpu_begin = now(device), time.process_time()
    (output,) = side.predict([sample])
    seconds, cpu_seconds = now(device) - begin, time.process_time() - cpu_begin
    if counts:
        side.seconds.append(seconds)
        side.cpu_seconds.append(cpu_seconds)
        memory = peak_memory(device)
        side.megabytes = None if memory is None else max(side.megabytes or 0, memory / 1e6)
    return output["instances"]


def share_of_same_boxes(one: Instances, two: Instances) -> float:
    """Of all boxes of both, how many have an equal in the other."""
    if len(one) == 0 or len(two) == 0:
        return float(len(one) == len(two))
    apart = (one.pred_boxes_3d.tensor[:, None] - two.pred_boxes_3d.tensor).abs().amax(dim=-1)
    scores = (one.scores[:, None] - two.scores).abs()
    same = (apart < _TOLERANCE) & (scores < _TOLERANCE / 10)
    same &= one.pred_classes[:, None] == two.pred_classes
    found = same.any(dim=1).sum() + same.any(dim=0).sum()
    return float(found) / (len(one) + len(two))


def as_rows(sides: dict[str, Side], peak: float) -> list[Row]:
    seconds = {name: statistics.median(side.seconds) for name, side in sides.items()}
    cpu = {name: statistics.median(side.cpu_seconds) for name, side in sides.items()}
    return [
        Row(
            side=name,
            milliseconds=1e3 * seconds[name],
            cpu_milliseconds=1e3 * cpu[name],
            ratio=seconds[ALL] / seconds[name],
            cpu_ratio=cpu[ALL] / cpu[name],
            gmacs=side.gmacs,
            gmacs_per_second=side.gmacs / seconds[name],
            peak_share=side.gmacs / seconds[name] / peak,
            megabytes=side.megabytes,
        )
        for name, side in sides.items()
    ]


def table(rows: Sequence[Row]) -> str:
    head = ("ms", "x", "CPU ms", "x", "GMACs", "GMAC/s", "of peak", "MB")
    lines = [f"{'':<12}" + "".join(f"{name:>10}" for name in head)]
    for row in rows:
        cells = [f"{row.milliseconds:.1f}", f"{row.ratio:.2f}"]
        cells += [f"{row.cpu_milliseconds:.1f}", f"{row.cpu_ratio:.2f}"]
        cells += [f"{row.gmacs:.2f}", f"{row.gmacs_per_second:.1f}"]
        cells += [f"{100 * row.peak_share:.0f} %"]
        cells += ["-" if row.megabytes is None else f"{row.megabytes:.0f}"]
        lines.append(f"{row.side:<12}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def describe(args: argparse.Namespace, cfg: DictConfig, peak: float) -> dict[str, Any]:
    """What the times depend on."""
    is_cuda = args.device == "cuda"
    height, width = cfg.dataloader.image_size
    return {
        "config": " ".join([args.config_file, *args.overrides]),
        "sample": f"{cfg.model.num_frames} frames of {args.cameras} cameras at {height}x{width}",
        "samples": args.frames,
        "device": torch.cuda.get_device_name() if is_cuda else platform.processor() or "cpu",
        "threads": args.threads,
        "precision": args.precision,
        "channels last": bool(cfg.train.get("channels_last", False)),
        "torch": torch.__version__,
        "operators": f"built for {', '.join(KERNEL_DEVICES) or 'no device'}",
        "matrix product": f"{peak:.1f} GMAC/s",
    }


def _check(args: argparse.Namespace) -> None:
    check_device(args.device)
    for name in ("frames", "cameras", "threads"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} starts at 1, got {getattr(args, name)}")
    check_folder(args.json)
