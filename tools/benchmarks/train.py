"""Time and memory of a training step, as the config has it and with other settings.

Every variant runs in a process of its own, so that its memory is its own, and the variants take
turns: --rounds times one warm-up step and --steps measured ones. "peak GB" is the most that was
held (CPU: resident, Linux only; GPU: allocated); "x" the first variant's time over this one's.
GMACs are the count of one evaluation, with three times the multiply-adds wherever gradients
flow and twice the BEV part for student and teacher; "of peak" is their rate over that of a large
matrix product in the same precision, measured in the same process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from fsdbev.d2.utils.events import EventStorage
from fsdbev.data.made_up import made_up_samples
from fsdbev.engine import load_config
from fsdbev.engine.analysis import analyze
from fsdbev.engine.determinism import set_determinism
from fsdbev.engine.ema import ModelEMA
from fsdbev.engine.model import build_model
from fsdbev.engine.optim import build_optimizer
from fsdbev.engine.overrides import apply_overrides
from fsdbev.engine.train_step import TrainStep
from fsdbev.utils.atomic_write import atomic_write

from .interleaved import aligned
from .machine import (
    check_device,
    check_folder,
    matrix_rate,
    now,
    peak_memory,
    reset_peak_memory,
)

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


@dataclass(frozen=True)
class Measured:
    """What one process found."""

    milliseconds: list[float]
    peak_bytes: float | None
    peak_macs_per_second: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", default="configs/fsdbev_tiny_synthetic.py")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=DEFAULT)
    parser.add_argument("--batch", type=int, default=2, help="samples a step")
    parser.add_argument("--num-cameras", type=int, default=6)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--steps", type=int, default=3, help="measured steps of a process")
    parser.add_argument("--rounds", type=int, default=2, help="processes of a variant")
    parser.add_argument("--json", type=Path, help="file for the same rows, unrounded")
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config")


def run(args: argparse.Namespace) -> None:
    """Prints the table.

    Raises:
        FileNotFoundError: there is no such config, or no folder for ``--json``.
        ValueError: an override or a number makes no sense, there is no such device, or a process
            failed; its last words are in the message.
    """
    _check(args)
    torch.set_num_threads(args.threads)
    if args.child:
        print(json.dumps(asdict(measure(args))))
        return
    cfg = _config(args, args.variants[0])
    macs = args.batch * training_macs(cfg, args.num_cameras)
    found: dict[str, list[Measured]] = {name: [] for name in args.variants}
    for name in args.variants * args.rounds:
        found[name].append(_in_own_process(args, name))
    rows = _rows(found, macs, args.batch)
    height, width = cfg.dataloader.image_size
    machine = {"device": args.device, "threads": args.threads, "torch": torch.__version__}
    setting = {
        "config": " ".join([args.config_file, *args.overrides]),
        "batch": f"{args.batch} samples, {args.num_cameras} cameras, {height}x{width}",
        "GMACs a step": round(macs / 1e9, 1),
    }
    print("\n".join(f"{name}: {value}" for name, value in {**machine, **setting}.items()))
    print(table(rows))
    if args.json:
        content = {"machine": machine, "setting": setting, "rows": rows}
        with atomic_write(args.json) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")


def measure(args: argparse.Namespace) -> Measured:
    """Steps of one variant, in this process."""
    cfg = _config(args, args.child)
    set_determinism(cfg.train)
    torch.manual_seed(0)
    model = build_model(cfg)
    device = next(model.parameters()).device
    batch = made_up_samples(
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
    reset_peak_memory(device)
    seconds = [_step(step, ema, number, device) for number in range(1 + args.steps)][1:]
    peak = peak_memory(device)
    rate = 1e9 * matrix_rate(device, step.precision or torch.float32)
    return Measured([1e3 * s for s in seconds], peak, rate)


def training_macs(cfg: DictConfig, num_cameras: int) -> int:
    """Multiply-adds of a step of one sample, forward and backward."""
    cpu = apply_overrides(cfg, ["train.device=cpu", "train.compile.enabled=False"])
    model = build_model(cpu)
    height, width = cpu.dataloader.image_size
    cost = analyze(model, image_size=(height, width), num_cameras=num_cameras)
    frames = cost.num_frames
    sides = 1 if getattr(model, "teacher_fill", None) is None else 2
    total = 0
    for name, part in cost.parts.items():
        # Earlier frames take part without gradient, as far as they are frames of their own.
        every_frame = (*cost.image_branch, "depth_net", "view_transform", "temporal_stage")
        passes = (3 + frames - 1) / frames if name in every_frame else 3
        in_both = name in ("view_transform", "temporal_stage", "bev_encoder", "head")
        total += int(part.macs * passes * (sides if in_both else 1))
    return total


def table(rows: list[dict]) -> str:
    """Aligned text, one line a variant."""
    lines = [["variant", "", "ms a step", "samples/s", "x", "peak GB", "GMAC/s", "of peak"]]
    for row in rows:
        numbers = [f"{row['milliseconds']:.0f}", f"{row['samples_per_second']:.2f}"]
        peak = row["peak_bytes"]
        numbers += [f"{row['ratio']:.2f}", "-" if peak is None else f"{peak / 1e9:.2f}"]
        numbers += [f"{row['macs_per_second'] / 1e9:.0f}", f"{100 * row['share_of_peak']:.0f} %"]
        lines.append([row["variant"], "", *numbers])
    return "\n".join(aligned(lines))


def _rows(found: dict[str, list[Measured]], macs: int, batch: int) -> list[dict]:
    rows, first = [], None
    for name, processes in found.items():
        milliseconds = statistics.median(ms for one in processes for ms in one.milliseconds)
        first = first or milliseconds
        rate = 1e3 * macs / milliseconds
        rows.append(
            {
                "variant": name,
                "milliseconds": milliseconds,
                "samples_per_second": 1e3 * batch / milliseconds,
                "ratio": first / milliseconds,
                "peak_bytes": max(one.peak_bytes or 0 for one in processes) or None,
                "macs_per_second": rate,
                "share_of_peak": rate / max(one.peak_macs_per_second for one in processes),
            }
        )
    return rows


def _config(args: argparse.Namespace, variant: str) -> DictConfig:
    overrides = [f"train.device={args.device}", *VARIANTS[variant], *args.overrides]
    return load_config(args.config_file, overrides)


def _in_own_process(args: argparse.Namespace, variant: str) -> Measured:
    command = [sys.executable, str(Path(__file__).parents[1] / "benchmark.py"), "train"]
    command += ["--config-file", args.config_file, "--child", variant]
    for name in ("batch", "num_cameras", "device", "threads", "steps"):
        command += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    done = subprocess.run([*command, *args.overrides], capture_output=True, text=True)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ValueError(f"variant {variant} ended with status {done.returncode}: {last}")
    return Measured(**json.loads(done.stdout.strip().splitlines()[-1]))


def _step(step: TrainStep, ema: ModelEMA, number: int, device: torch.device) -> float:
    step.iter = number
    begin = now(device)
    with EventStorage(number):
        step.run_step()
    ema.update()
    return now(device) - begin


def _check(args: argparse.Namespace) -> None:
    check_device(args.device)
    numbers = (args.batch, args.num_cameras, args.threads, args.steps, args.rounds)
    if min(numbers) < 1:
        raise ValueError(
            "--batch, --num-cameras, --threads, --steps and --rounds start at 1, got "
            f"{', '.join(map(str, numbers))}"
        )
    check_folder(args.json)
