"""Time of inference with all frames of each sample, and with a stream that caches image features.

The model has random weights and runs on a fake drive. Both variants run in turns, sample by sample,
and must detect the same boxes. The first sample is a warm-up; times are medians. GMACs are those of
tools/analyze_model.py, which also reports memory. "of peak" is the rate relative to a large matrix
product in the same precision and run. The config sets memory layout and compilation of the model,
for example train.channels_last=True.
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
from fsdbev.inference.model_builder import build_model
from fsdbev.inference.streaming import StreamingPredictor
from fsdbev.modeling.center_head.decode import Candidates
from fsdbev.utils.flops import analyze

from . import machine

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
ALL, STREAM = "all frames", "stream"
#: Largest difference between scores of equal boxes; box values may differ by ten times that.
_TOLERANCE = 1e-3
#: Least fraction of equal boxes in a sample: rounding can change the result of NMS.
_MIN_EQUAL = 0.99


@dataclass
class Side:
    """One way to process samples.

    Attributes:
        predict: function from a list of one sample to a list of its detections.
        gmacs: multiply-adds of one sample, 10^9.
        seconds: time of each counted sample.
    """

    predict: Callable[[list[dict]], list[dict[str, Instances]]]
    gmacs: float
    seconds: list[float] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    machine.add_arguments(parser)
    add = parser.add_argument
    config = "configs/fsdbev_r50_cbgs.py"
    add("--config-file", default=config, help="config file (default: %(default)s)")
    precision = "precision of autocast (default: float32)"
    add("--precision", choices=PRECISIONS, default="float32", help=precision)
    add("--frames", type=int, default=6, help="samples to time (default: 6)")
    add("--cameras", type=int, default=6, help="number of cameras (default: 6)")
    add("overrides", nargs="*", metavar="key=value", help="changes to the config")


def run(args: argparse.Namespace) -> None:
    """Prints a table with one row per variant and writes the rows.

    Raises:
        FileNotFoundError: the config or the folder of ``--json`` does not exist.
        ValueError: the device does not exist, a number is less than 1, or the variants disagree.
    """
    machine.check(args, "frames", "cameras", "threads")
    torch.set_num_threads(args.threads)
    cfg = load_config(args.config_file, [*args.overrides, f"train.device={args.device}"])
    sides = make_sides(cfg, args.cameras)
    size = tuple(cfg.dataloader.image_size)
    drive = fake_drive(num_frames=cfg.model.num_frames, num_cameras=args.cameras, image_size=size)
    rate, equal = measure(sides, islice(drive, args.frames + 1), args.device, args.precision)
    rows = [_row(name, side, sides[ALL], rate) for name, side in sides.items()]
    about = {
        **machine.describe(args.device),
        "config": " ".join([args.config_file, *args.overrides]),
        "sample": f"{cfg.model.num_frames} frames of {args.cameras} cameras at {size[0]}x{size[1]}",
        "precision": args.precision,
        "channels last": bool(cfg.train.get("channels_last", False)),
        "matrix product": f"{rate:.1f} GMAC/s",
        "same boxes": f"{100 * equal:.2f} %",
    }
    machine.show(about)
    print(f"\n{machine.table(rows)}", flush=True)
    machine.write_json(args, about, rows=rows)


def make_sides(cfg: DictConfig, cameras: int) -> dict[str, Side]:
    """Builds the model of a config with random weights, and a stream of it."""
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
    """Runs all samples through both variants, which alternate in being first.

    Returns:
        The peak rate of the machine in GMAC/s, from a matrix product after each sample; and the
        least fraction of equal boxes in a sample.

    Raises:
        ValueError: the fraction is too low.
    """
    dtype = PRECISIONS[precision]
    rates, shares = [], []
    for number, sample in enumerate(drive):
        names, found = list(sides), {}
        for name in names if number % 2 else names[::-1]:
            with torch.autocast(device, dtype, enabled=dtype is not None):
                found[name] = run_once(sides[name], sample, counts=number > 0)
        shares.append(share_of_same_boxes(found[STREAM], found[ALL]))
        if shares[-1] < _MIN_EQUAL:
            raise ValueError(
                f"sample {number}: only {100 * shares[-1]:.1f} % of the boxes are equal; no "
                "times are reported"
            )
        rates.append(machine.matrix_rate(torch.device(device), dtype or torch.float32))
    return max(rates), min(shares)


def run_once(side: Side, sample: dict, *, counts: bool) -> Instances:
    """Returns the detections of a variant in one sample; the run is timed if it counts."""
    begin = wall_time()
    (output,) = side.predict([sample])
    if counts:
        side.seconds.append(wall_time() - begin)
    return output["instances"]


def share_of_same_boxes(one: Instances, two: Instances) -> float:
    """Returns the fraction of boxes with an equal counterpart in the other result."""
    sides = [
        [Candidates(found.pred_boxes_3d.tensor, found.scores, found.pred_classes)]
        for found in (one, two)
    ]
    compared = compare_detections(*sides, _TOLERANCE)
    return 1 - compared.num_unmatched / max(compared.num_detections, 1)


def _row(name: str, side: Side, every: Side, peak: float) -> dict[str, Any]:
    """Returns medians over samples, and the ratio of all frames to this variant."""
    seconds = statistics.median(side.seconds)
    rate = side.gmacs / seconds
    row = {"side": name, "ms": 1e3 * seconds, "x": statistics.median(every.seconds) / seconds}
    row |= {"GMACs": side.gmacs, "GMAC/s": rate, "of peak": rate / peak}
    return row
