"""The machine that a benchmark runs on: description and peak rate; output of the results."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tabulate import tabulate
from torch.utils.benchmark import Timer

#: Edge of the matrices whose product gives the peak rate.
_MATRIX = {"cpu": 2048, "cuda": 8192}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of all subjects that run operators or models."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")


def check(args: argparse.Namespace, *counts: str) -> None:
    """Checks what the subjects have in common, before anything is measured.

    Args:
        args: of the command line.
        counts: options, numbers or lists of numbers, that must be at least 1.

    Raises:
        ValueError: there is no such device, or a number is too small.
        FileNotFoundError: ``--json`` is in no folder.
    """
    if getattr(args, "device", "cpu") == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this PyTorch finds no GPU; --device cpu needs none")
    for name in counts:
        value = getattr(args, name)
        if min(value if isinstance(value, (list, tuple)) else [value]) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if args.json and not args.json.absolute().parent.is_dir():
        raise FileNotFoundError(f"--json: there is no folder {args.json.absolute().parent}")


def describe(device: str = "cpu") -> dict[str, Any]:
    """What times depend on."""
    name = f"{platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GMAC/s of a product of large matrices, in TF32 where convolutions are."""
    edge = _MATRIX[device.type]
    a, b = (torch.rand(edge, edge, device=device).to(dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        timer = Timer("a @ b", globals={"a": a, "b": b}, num_threads=torch.get_num_threads())
        return edge**3 / min(timer.blocked_autorange().times) / 1e9
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def show(values: Mapping[str, Any]) -> None:
    print("\n".join(f"{name}: {value}" for name, value in values.items()), flush=True)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Aligned text, one line a row; "-" where a row has no value."""
    return tabulate(rows, headers="keys", floatfmt=".3g", missingval="-")


def write_json(args: argparse.Namespace, machine: Mapping[str, Any], **content: Any) -> None:
    """Writes the machine, the options and the unrounded results to ``--json``, if it is given."""
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key not in ("run", "json")}
        content = {"machine": machine, "settings": settings, **content}
        args.json.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
