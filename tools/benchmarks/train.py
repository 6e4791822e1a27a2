"""Time and memory of a training step, as the config has it and with other settings.

Every variant runs in a process of its own, so that its memory is its own, and the variants take
turns: --rounds times one warm-up step and --steps measured ones. "peak GB" is the most that was
held (CPU: resident, Linux only; GPU: allocated); "x" the first variant's time over this one's.
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
from omegaconf import DictConfig
from torch.utils.benchmark.utils.timer import timer as wall_time

from fsdbev.config import load_config
from fsdbev.d2.utils.events import EventStorage
from fsdbev.data.fake import fake_samples
from fsdbev.engine.determinism import set_determinism
from fsdbev.engine.ema import ModelEMA
from fsdbev.engine.optim import build_optimizer
from fsdbev.engine.train_step import TrainStep
from fsdbev.modeling.build import build_model

from . import machine

#: What a variant changes in the config.
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
    add("--config-file", default="configs/fsdbev_tiny_synthetic.py")
    add("--variants", nargs="+", choices=VARIANTS, default=DEFAULT)
    add("--batch", type=int, default=2, help="samples a step")
    add("--num-cameras", type=int, default=6)
    add("--steps", type=int, default=3, help="measured steps of a process")
    add("--rounds", type=int, default=2, help="processes of a variant")
    add("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    add("overrides", nargs="*", metavar="key=value", help="changes to the config")


def run(args: argparse.Namespace) -> None:
    """Prints the table.

    Raises:
        FileNotFoundError: there is no such config, or no folder for ``--json``.
        ValueError: an override or a number makes no sense, there is no such device, or a process
            failed; the last lines of its output are in the message.
    """
    machine.check(args, "batch", "num_cameras", "threads", "steps", "rounds")
    torch.set_num_threads(args.threads)
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
    """Times of the steps of one variant in this process, and its peak memory."""
    cfg = _config(args, args.child)
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
    )
    amp = cfg.train.amp
    step = TrainStep(
        model.train(),
        itertools.repeat(batch),
        build_optimizer(cfg.optimizer, model),
        device=device,
        precision=getattr(torch, amp.dtype) if amp.enabled else None,
        max_grad_norm=cfg.train.clip_grad.max_norm,
    )
    ema = ModelEMA(model)
    times = [_step(step, ema, number) for number in range(1 + args.steps)][1:]
    if device.type == "cuda":
        return {"milliseconds": times, "peak_bytes": torch.cuda.max_memory_allocated(device)}
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of Linux
    return {"milliseconds": times, "peak_bytes": 1024 * kilobytes}


def _rows(found: dict[str, list[dict[str, Any]]], batch: int) -> list[dict[str, Any]]:
    rows, first = [], None
    for name, processes in found.items():
        ms = statistics.median(ms for one in processes for ms in one["milliseconds"])
        first = first or ms
        peak = max(one["peak_bytes"] for one in processes)
        row = {"variant": name, "ms a step": ms, "samples/s": 1e3 * batch / ms, "x": first / ms}
        rows.append({**row, "peak GB": peak / 1e9})
    return rows


def _config(args: argparse.Namespace, variant: str) -> DictConfig:
    overrides = [f"train.device={args.device}", *VARIANTS[variant], *args.overrides]
    return load_config(args.config_file, overrides)


def _in_own_process(args: argparse.Namespace, variant: str) -> dict[str, Any]:
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
    """Milliseconds."""
    step.iter = number
    begin = wall_time()
    with EventStorage(number):
        step.run_step()
    ema.update()
    return 1e3 * (wall_time() - begin)
