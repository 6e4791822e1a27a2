"""Time and memory of a training step with several variants of the config.

Each variant runs in a separate process, so that memory is measured separately. The variants run in
turns: --rounds times a process with one warm-up step and --steps measured steps. "peak GB" is the
peak of resident memory (CPU, Linux only) or allocated memory (GPU); "x" is the time of the first
variant divided by the time of the row.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark.utils.timer import timer as wall_time

from fsdbev.config import load_config
from fsdbev.d2.utils.events import EventStorage
from fsdbev.data.fake import fake_samples
from fsdbev.engine.determinism import set_determinism
from fsdbev.engine.ema import ModelEMA
from fsdbev.engine.lazy_builders import build_optimizer
from fsdbev.engine.train_step import TrainStep, autocast_dtype
from fsdbev.inference.model_builder import build_model

from . import machine

#: Changes to the config by variant.
VARIANTS = {
    "float32": ["train.amp.enabled=False", "train.channels_last=False"],
    "channels_last": ["train.amp.enabled=False", "train.channels_last=True"],
    "bfloat16": ["train.amp.enabled=True", "train.channels_last=False"],
    "bfloat16+channels_last": ["train.amp.enabled=True", "train.channels_last=True"],
    "checkpointing": ["model.backbone.activation_checkpoint=True"],
    "compiled": ["train.compile.enabled=True"],
    "deterministic": ["train.deterministic=True"],
}
DEFAULT = ("float32", "channels_last", "bfloat16+channels_last", "checkpointing")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    machine.add_arguments(parser)
    add = parser.add_argument
    config = "configs/fsdbev_tiny_synthetic.py"
    add("--config-file", default=config, help="config file (default: %(default)s)")
    variants = f"variants (default: {' '.join(DEFAULT)})"
    add("--variants", nargs="+", choices=VARIANTS, default=DEFAULT, help=variants)
    add("--batch", type=int, default=2, help="samples per step (default: 2)")
    add("--num-cameras", type=int, default=6, help="number of cameras (default: 6)")
    add("--steps", type=int, default=3, help="measured steps per process (default: 3)")
    add("--rounds", type=int, default=2, help="processes per variant (default: 2)")
    add("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    add("overrides", nargs="*", metavar="key=value", help="changes to the config")


def run(args: argparse.Namespace) -> None:
    """Measures all variants and prints the table.

    Raises:
        FileNotFoundError: the config or the folder of ``--json`` does not exist.
        ValueError: an override or a number is invalid, the device does not exist, or a process
            failed; the message has the last lines of its output.
    """
    machine.check(args, "batch", "num_cameras", "threads", "steps", "rounds")
    torch.set_num_threads(args.threads)
    # A process of one variant prints its result as the last line.
    if args.child:
        print(json.dumps(measure(args)))
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in args.variants}
    for name in args.variants * args.rounds:
        found[name].append(_in_own_process(args, name))
    about = {
        **machine.describe(args.device),
        "config": " ".join([args.config_file, *args.overrides]),
        "batch": f"{args.batch} samples, {args.num_cameras} cameras",
    }
    machine.show(about)
    rows = _rows(found, args.batch)
    print(machine.table(rows))
    machine.write_json(args, about, rows=rows)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measures the steps of one variant and the peak memory of this process."""
    overrides = [f"train.device={args.device}", *VARIANTS[args.child], *args.overrides]
    cfg = load_config(args.config_file, overrides)
    set_determinism(cfg.train)
    torch.manual_seed(0)
    model = build_model(cfg)
    device = next(model.parameters()).device
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
    step = TrainStep(
        model.train(),
        itertools.repeat(batch),
        build_optimizer(cfg.optimizer, model),
        device=device,
        precision=autocast_dtype(cfg.train.amp),
        max_grad_norm=cfg.train.clip_grad.max_norm,
    )
    ema = ModelEMA(model)
    times = [_step(step, ema, number) for number in range(1 + args.steps)][1:]
    if device.type == "cuda":
        return {"milliseconds": times, "peak_bytes": torch.cuda.max_memory_allocated(device)}
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return {"milliseconds": times, "peak_bytes": 1024 * kilobytes}


def _rows(found: dict[str, list[dict[str, Any]]], batch: int) -> list[dict[str, Any]]:
    """Returns one row per variant, with the median over all steps and the largest peak."""
    rows, first = [], None
    for name, processes in found.items():
        ms = statistics.median(ms for one in processes for ms in one["milliseconds"])
        first = first or ms
        peak = max(one["peak_bytes"] for one in processes)
        row = {"variant": name, "ms a step": ms, "samples/s": 1e3 * batch / ms, "x": first / ms}
        rows.append({**row, "peak GB": peak / 1e9})
    return rows


def _in_own_process(args: argparse.Namespace, variant: str) -> dict[str, Any]:
    """Runs :func:`measure` for a variant in a new process."""
    command = [sys.executable, str(Path(__file__).parents[1] / "benchmark.py"), "train"]
    command += ["--config-file", args.config_file, "--child", variant]
    for name in ("batch", "num_cameras", "device", "threads", "steps"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    done = subprocess.run([*command, *args.overrides], capture_output=True, text=True)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ValueError(f"variant {variant} ended with status {done.returncode}: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _step(step: TrainStep, ema: ModelEMA, number: int) -> float:
    """Runs one training step with EMA and returns its time in milliseconds."""
    step.iter = number
    begin = wall_time()
    with EventStorage(number):
        step.run_step()
    ema.update()
    return 1e3 * (wall_time() - begin)
