"""Time of inference: all frames of a sample against a stream that keeps image features.

A fake drive and random weights; the two sides take turns, sample by sample, and must find the same
boxes. The first sample warms both up and is not counted; times are medians. GMACs are those of
tools/analyze_model.py, which also tells the memory; "of peak" is their rate as a share of that of a
large matrix product in the same precision and the same run. The config decides about the layout
and the compilation of the model: train.channels_last=True.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.utils.benchmark.utils.timer import timer as wall_time

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.d2.structures import Instances
from fsdbev.data.fake import fake_drive
from fsdbev.export.comparison import compare_detections
from fsdbev.inference.streaming import StreamingPredictor
from fsdbev.modeling.build import build_model
from fsdbev.modeling.center_head.decode import Candidates
from fsdbev.utils.flops import analyze

from . import machine

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
ALL, STREAM = "all frames", "stream"
#: Largest difference of the scores of equal boxes; of their values ten times that.
_TOLERANCE = 1e-3
_LEAST_SAME = 0.99


@dataclass
class Side:
    """One way to compute a sample.

    Attributes:
        predict: list of one sample -> list of its detections.
        gmacs: of one sample.
        seconds: of every sample.
    """

    predict: Callable[[list[dict]], list[dict[str, Instances]]]
    gmacs: float
    seconds: list[float] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    machine.add_arguments(parser)
    add = parser.add_argument
    add("--config-file", default="configs/fsdbev_r50_cbgs.py")
    add("--precision", choices=PRECISIONS, default="float32", help="of autocast")
    add("--frames", type=int, default=6, help="samples to time")
    add("--cameras", type=int, default=6)
    add("overrides", nargs="*", metavar="key=value", help="changes to the config")


def run(args: argparse.Namespace) -> None:
    """Prints a table with a row a side; writes the rows.

    Raises:
        FileNotFoundError: there is no such config, or ``--json`` is in no folder.
        ValueError: there is no such device, nothing to measure, or the sides do not agree.
    """
    machine.check(args, "frames", "cameras", "threads")
    torch.set_num_threads(args.threads)
    cfg = load_config(args.config_file, [*args.overrides, f"train.device={args.device}"])
    sides = make_sides(cfg, args.cameras)
    size = tuple(cfg.dataloader.image_size)
    drive = fake_drive(num_frames=cfg.model.num_frames, num_cameras=args.cameras, image_size=size)
    rate, same = measure(sides, islice(drive, args.frames + 1), args.device, args.precision)
    rows = [_row(name, side, sides[ALL], rate) for name, side in sides.items()]
    about = {
        **machine.describe(args.device),
        "config": " ".join([args.config_file, *args.overrides]),
        "sample": f"{cfg.model.num_frames} frames of {args.cameras} cameras at {size[0]}x{size[1]}",
        "precision": args.precision,
        "channels last": bool(cfg.train.get("channels_last", False)),
        "matrix product": f"{rate:.1f} GMAC/s",
        "same boxes": f"{100 * same:.2f} %",
    }
    machine.show(about)
    print(f"\n{machine.table(rows)}", flush=True)
    machine.write_json(args, about, rows=rows)


def make_sides(cfg: DictConfig, cameras: int) -> dict[str, Side]:
    """The model of a config with random weights, and its stream."""
    size = tuple(cfg.dataloader.image_size)
    cost = analyze(instantiate(cfg.model), image_size=size, num_cameras=cameras)
    torch.manual_seed(0)
    model: nn.Module = build_model(cfg).eval()
    return {
        ALL: Side(model, cost.total.macs / 1e9),
        STREAM: Side(StreamingPredictor(model), sum(cost.stream_macs().values()) / 1e9),
    }


@torch.no_grad()
def measure(
    sides: dict[str, Side], drive: Iterator[dict], device: str, precision: str
) -> tuple[float, float]:
    """Runs every sample through all sides, which take turns in being first.

    Returns:
        the machine's peak, GMAC/s: the best of the matrix products after every sample;
        the least share of a sample's boxes that are the same.

    Raises:
        ValueError: that share is too low.
    """
    dtype = PRECISIONS[precision]
    rates, shares = [], []
    for number, sample in enumerate(drive):
        names, found = list(sides), {}
        for name in names if number % 2 else names[::-1]:
            with torch.autocast(device, dtype, enabled=dtype is not None):
                found[name] = run_once(sides[name], sample, counts=number > 0)
        shares.append(share_of_same_boxes(found[STREAM], found[ALL]))
        if shares[-1] < _LEAST_SAME:
            raise ValueError(
                f"sample {number}: {100 * shares[-1]:.1f} % of the boxes are the same, so the "
                "times mean nothing"
            )
        rates.append(machine.matrix_rate(torch.device(device), dtype or torch.float32))
    return max(rates), min(shares)


def run_once(side: Side, sample: dict, *, counts: bool) -> Instances:
    """The detections of a side in a sample; the run is timed if it counts."""
    begin = wall_time()
    (output,) = side.predict([sample])
    if counts:
        side.seconds.append(wall_time() - begin)
    return output["instances"]


def share_of_same_boxes(one: Instances, two: Instances) -> float:
    """Share of the boxes of both that have an equal in the other."""
    sides = [
        [Candidates(found.pred_boxes_3d.tensor, found.scores, found.pred_classes)]
        for found in (one, two)
    ]
    compared = compare_detections(*sides, _TOLERANCE)
    return 1 - compared.num_unmatched / max(compared.num_detections, 1)


def _row(name: str, side: Side, every: Side, peak: float) -> dict[str, Any]:
    """Medians over samples, and the ratio of all frames to this side."""
    seconds = statistics.median(side.seconds)
    rate = side.gmacs / seconds
    row = {"side": name, "ms": 1e3 * seconds, "x": statistics.median(every.seconds) / seconds}
    row |= {"GMACs": side.gmacs, "GMAC/s": rate, "of peak": rate / peak}
    return row
