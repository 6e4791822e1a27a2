#!/usr/bin/env python
"""Counts parameters, multiply-adds and memory of a config's model for each part of the model.

    python tools/analyze_model.py --config-file configs/fsdbev_r50_cbgs.py [key=value ...]
    python tools/analyze_model.py --config-file configs/fsdbev_r101_cbgs.py --json r101.json
    python tools/analyze_model.py --config-file configs/fsdbev_tiny_synthetic.py --memory --batch 2

The tool evaluates one sample (all frames, all cameras) with random weights on the CPU. On one core
this takes half a minute and 2 GB for ResNet-50 at 256x704, and four minutes and 4 GB for ResNet-101
at 512x1408. With --memory it also evaluates a batch and runs one training step on train.device,
which needs as much memory as it then reports.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from operator import itemgetter
from pathlib import Path

# Without this the profiler logs when it starts and stops. PyTorch reads the variable on import.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

# ruff: noqa: E402
from command_line import camera_count, exit_status, tool_parser
from omegaconf import DictConfig

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.engine.lazy_builders import build_optimizer
from fsdbev.engine.train_step import autocast_dtype
from fsdbev.inference.model_builder import build_model
from fsdbev.layers import EXTENSION_BUILT
from fsdbev.utils.flops import ModelCost, analyze
from fsdbev.utils.memory import WorkingMemory, working_memory

CONVENTION = """\
GMACs: 10^9 multiply-adds, half of the operations that PyTorch's FlopCounterMode counts, of
convolutions and matrix products. As in fvcore, batch norm counts 2 per value, bilinear upsampling 4
and nearest upsampling 1 per output value, averaging 1 per input value. All other operators are not
counted: activations, pooling, softmax, NMS, copies and so on.
lift_splat: an upper bound that counts every frustum point, including masked points.
stream: image features of earlier frames are cached. Backbone, neck, msfe and the layers of the
depth network that do not depend on the camera run on the key frame only, everything else as before.
other: products of camera matrices."""
MEMORY_CONVENTION = """\
kept for backward: storages, each counted once for the part that saved it first. Peaks are those of
PyTorch's allocator, on the CPU measured by torch.profiler. Optimizer is its state after one step,
average a copy of all weights (EMA). Prefetched batches, the CUDA context and memory that the
allocator reserves are not included."""
MIB = 2**20


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add = parser.add_argument
    add("--config-file", required=True, help="LazyConfig file with a model")
    cameras = "number of cameras (default: those of dataloader.cameras, or 6)"
    add("--num-cameras", type=int, help=cameras)
    add("--memory", action="store_true", help="also measure the memory of evaluation and training")
    add("--batch", type=int, default=1, help="samples for --memory (default: 1)")
    add("--json", type=Path, help="file for the unrounded numbers")
    add("overrides", nargs="*", metavar="key=value", help="changes to the config")
    return parser.parse_intermixed_args(arguments)


def table(cost: ModelCost) -> str:
    """Formats one line per part: parameters in millions, GMACs, and GMACs in a stream."""
    stream = cost.stream_macs()
    rows = [(name, part, stream[name]) for name, part in cost.parts.items()]
    rows.append(("total", cost.total, sum(stream.values())))
    lines = [f"{'part':16}{'parameters (M)':>16}{'GMACs':>12}{'in a stream':>14}"]
    for name, part, in_stream in rows:
        numbers = f"{part.parameters / 1e6:16.3f}{part.macs / 1e9:12.3f}{in_stream / 1e9:14.3f}"
        lines.append(f"{name:16}{numbers}")
    return "\n".join(lines)


def by_operator(cost: ModelCost) -> str:
    """Formats the share of each operator in the multiply-adds."""
    largest_first = sorted(cost.total.operators.items(), key=itemgetter(1), reverse=True)
    shares = [f"{name} {100 * n / cost.total.macs:.3g} %" for name, n in largest_first if n]
    text = "by operator: " + ", ".join(shares)
    return text if EXTENSION_BUILT else f"{text}\nlift_splat is not counted, since it is not built"


def memory_table(cost: ModelCost, memory: WorkingMemory | None) -> str:
    """Formats one line per part: MiB of parameters, buffers and tensors kept for backward."""
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
    """Formats the memory of evaluating and of training the batch."""
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
    """Returns all numbers as JSON."""
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
    """Measures the model as in training: with its device, memory layout and precision."""
    model = build_model(cfg)
    batch = fake_samples(
        args.batch,
        num_frames=model.num_frames,
        num_cameras=args.num_cameras,
        image_size=tuple(cfg.dataloader.image_size),
        training=True,
        num_classes=len(model.classes),
        grid=model.grid,
        depth_bins=model.depth_bins,
    )
    return working_memory(
        model,
        batch,
        optimizer=partial(build_optimizer, cfg.optimizer),
        precision=autocast_dtype(cfg.train.amp),
    )


def run(args: argparse.Namespace) -> None:
    """Builds the model and prints all tables."""
    if args.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {args.batch}")
    cfg = load_config(args.config_file, args.overrides)
    args.num_cameras = camera_count(cfg, args.num_cameras)
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
