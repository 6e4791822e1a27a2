#!/usr/bin/env python
"""Counts the parameters, multiply-adds and memory of a config's model, by part.

    python tools/analyze_model.py --config-file configs/fsdbev_r50_cbgs.py [key=value ...]
    python tools/analyze_model.py --config-file configs/fsdbev_r101_cbgs.py --json r101.json
    python tools/analyze_model.py --config-file configs/fsdbev_tiny_synthetic.py --memory --batch 2

One sample (all frames, all cameras) is evaluated with random weights on the CPU. On one core that
takes half a minute and 2 GB for ResNet-50 at 256x704, four minutes and 4 GB for ResNet-101 at
512x1408. With --memory a batch is also evaluated and trained on for a step, on train.device, which
takes the memory that it then tells.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler tells when it starts and stops

# ruff: noqa: E402  PyTorch reads the environment when it is imported
from command_line import exit_status, tool_parser
from omegaconf import DictConfig

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.engine.optim import build_optimizer
from fsdbev.engine.train_step import autocast_dtype
from fsdbev.layers import EXTENSION_BUILT
from fsdbev.modeling.build import build_model
from fsdbev.utils.flops import ModelCost, analyze
from fsdbev.utils.memory import WorkingMemory, working_memory

CONVENTION = """\
GMACs: 10^9 multiply-adds, half of what PyTorch's FlopCounterMode counts: convolutions and matrix
products; as in fvcore 2 for each value of a batch norm, 4 for each value out of bilinear
upsampling, 1 out of nearest upsampling and 1 into averaging. No other operator counts: activations,
pooling, softmax, NMS, copies and so on.
lift_splat: every frustum point counts, kept or not, which is the most that it can be.
stream: the image features of earlier frames are kept, so that backbone, neck, msfe and what of the
depth network knows no camera run on the key frame only; everything else runs as before.
other: camera matrices."""
MEMORY_CONVENTION = """\
kept for backward: storages, each counted once, by the part that kept it first. Peaks are what
PyTorch's allocators gave: on a GPU its own count, on the CPU by torch.profiler. The optimizer's
state is that after a step, the average (EMA) a copy of all weights. Batches that wait in the
loader, CUDA itself and what PyTorch's allocator keeps in reserve come on top."""
MIB = 2**20


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("--config-file", required=True, help="LazyConfig file with a model")
    parser.add_argument("--num-cameras", type=int, default=6, help="of the rig (default: 6)")
    parser.add_argument(
        "--memory", action="store_true", help="evaluate and train a batch, for the memory it takes"
    )
    parser.add_argument("--batch", type=int, default=1, help="samples for --memory (default: 1)")
    parser.add_argument("--json", type=Path, help="file for the same numbers, unrounded")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config")
    return parser.parse_intermixed_args(arguments)


def table(cost: ModelCost) -> str:
    """One line a part: parameters in millions, GMACs, GMACs in a stream."""
    stream = cost.stream_macs()
    rows = [(name, part, stream[name]) for name, part in cost.parts.items()]
    rows.append(("total", cost.total, sum(stream.values())))
    lines = [f"{'part':16}{'parameters (M)':>16}{'GMACs':>12}{'in a stream':>14}"]
    for name, part, in_stream in rows:
        numbers = f"{part.parameters / 1e6:16.3f}{part.macs / 1e9:12.3f}{in_stream / 1e9:14.3f}"
        lines.append(f"{name:16}{numbers}")
    return "\n".join(lines)


def by_operator(cost: ModelCost) -> str:
    """Share of each operator in the total."""
    largest_first = sorted(cost.total.operators.items(), key=lambda item: -item[1])
    shares = [f"{name} {100 * n / cost.total.macs:.3g} %" for name, n in largest_first if n]
    text = "by operator: " + ", ".join(shares)
    return text if EXTENSION_BUILT else f"{text}\nlift_splat is not counted: it is not compiled"


def memory_table(cost: ModelCost, memory: WorkingMemory | None) -> str:
    """One line a part: MiB of parameters, of buffers, and kept for the backward pass."""
    saved = memory.saved if memory else {}
    rows = [
        (name, part.parameter_bytes, part.buffer_bytes, saved.get(name, 0))
        for name, part in cost.parts.items()
    ]
    rows.append(("total", *(sum(column) for column in zip(*(row[1:] for row in rows)))))
    last_title = f"{'kept for backward':>20}" if memory else ""
    lines = [f"{'memory (MiB)':16}{'parameters':>16}{'buffers':>12}{last_title}"]
    for name, parameters, buffers, kept in rows:
        line = f"{name:16}{parameters / MIB:16.3f}{buffers / MIB:12.3f}"
        lines.append(line + (f"{kept / MIB:20.3f}" if memory else ""))
    return "\n".join(lines)


def memory_sums(cost: ModelCost, memory: WorkingMemory, ema: bool) -> str:
    """What evaluating and training the batch takes in all."""
    model = cost.total.parameter_bytes + cost.total.buffer_bytes
    average = model if ema else 0
    training = model + average + memory.optimizer + memory.training
    return (
        f"evaluating: {(model + memory.inference) / MIB:.1f} MiB = weights {model / MIB:.1f} + "
        f"peak of the pass {memory.inference / MIB:.1f}\n"
        f"training: {training / MIB:.1f} MiB = weights {model / MIB:.1f} + "
        f"optimizer {memory.optimizer / MIB:.1f} + average {average / MIB:.1f} + "
        f"peak of the step {memory.training / MIB:.1f}, with gradients {memory.gradients / MIB:.1f}"
    )


def as_json(cost: ModelCost, memory: WorkingMemory | None, setting: dict) -> str:
    stream = cost.stream_macs()
    parts = {
        name: {
            "parameters": part.parameters,
            "parameter_bytes": part.parameter_bytes,
            "buffer_bytes": part.buffer_bytes,
            "macs": part.macs,
            "stream_macs": stream[name],
            "macs_by_operator": dict(part.operators),
        }
        for name, part in cost.parts.items()
    }
    result = {
        **setting,
        "parts": parts,
        "parameters": cost.total.parameters,
        "macs": cost.total.macs,
        "stream_macs": sum(stream.values()),
        "memory": asdict(memory) if memory else None,
    }
    return json.dumps(result, indent=2) + "\n"


def measure_memory(cfg: DictConfig, args: argparse.Namespace) -> WorkingMemory:
    """Of the model as training builds it: its device, layout of weights and precision."""
    model = build_model(cfg)
    batch = fake_samples(
        args.batch,
        num_frames=model.num_frames,
        num_cameras=args.num_cameras,
        image_size=tuple(cfg.dataloader.image_size),
        training=True,
    )
    return working_memory(
        model,
        batch,
        optimizer=partial(build_optimizer, cfg.optimizer),
        precision=autocast_dtype(cfg.train.amp),
    )


def run(args: argparse.Namespace) -> None:
    """Builds, counts and prints."""
    if args.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {args.batch}")
    cfg = load_config(args.config_file, args.overrides)
    model = instantiate(cfg.model)
    height, width = cfg.dataloader.image_size
    cost = analyze(model, image_size=(height, width), num_cameras=args.num_cameras)
    rows, columns = model.grid.shape
    print(
        f"{' '.join([args.config_file, *args.overrides])}\n"
        f"one sample in evaluation: {cost.num_frames} frames of {args.num_cameras} cameras at "
        f"{height}x{width}, BEV {rows}x{columns}, {model.depth_bins.count} depth bins\n"
    )
    print(table(cost), by_operator(cost), CONVENTION, sep="\n\n")
    memory = measure_memory(cfg, args) if args.memory else None
    print("", memory_table(cost, memory), sep="\n")
    if memory:
        sums = memory_sums(cost, memory, ema=cfg.train.ema.enabled)
        print(f"\na batch of {args.batch}:\n{sums}", MEMORY_CONVENTION, sep="\n\n")
    if args.json:
        setting = {
            "config_file": args.config_file,
            "overrides": args.overrides,
            "num_frames": cost.num_frames,
            "num_cameras": args.num_cameras,
            "batch": args.batch,
            "image_size": [height, width],
            "bev_size": [rows, columns],
            "depth_bins": model.depth_bins.count,
        }
        args.json.write_text(as_json(cost, memory, setting), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    return exit_status(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
