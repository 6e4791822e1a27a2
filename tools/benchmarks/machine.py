"""Helpers of all benchmarks: options, description and peak rate of the machine, output."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tabulate import tabulate
from torch.utils.benchmark import Timer

#: Edge length of the square matrices whose product measures the peak rate.
_MATRIX = {"cpu": 2048, "cuda": 8192}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of all subjects that run operators or models."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")


def check(args: argparse.Namespace, *counts: str) -> None:
    """Checks common arguments before anything is measured.

    Args:
        args: arguments of the command line.
        counts: names of arguments, numbers or lists of numbers, that must be at least 1.

    Raises:
        ValueError: the device does not exist, or a number is less than 1.
        FileNotFoundError: the folder of ``--json`` does not exist.
    """
    if getattr(args, "device", "cpu") == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no GPU; use --device cpu")
    for name in counts:
        value = getattr(args, name)
        if min(value if isinstance(value, (list, tuple)) else [value]) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if args.json and not args.json.absolute().parent.is_dir():
        raise FileNotFoundError(f"--json: no folder {args.json.absolute().parent}; create it first")


def describe(device: str = "cpu") -> dict[str, Any]:
    """Describes what times depend on: device, threads and version of PyTorch."""
    name = f"{platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measures the rate of a product of large matrices, in GMAC/s."""
    edge = _MATRIX[device.type]
    a, b = (torch.rand(edge, edge, device=device).to(dtype) for _ in range(2))
    # The same precision as convolutions, which may use TF32 where matrix products do not.
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        timer = Timer("a @ b", globals={"a": a, "b": b}, num_threads=torch.get_num_threads())
        return edge**3 / min(timer.blocked_autorange().times) / 1e9
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def show(values: Mapping[str, Any]) -> None:
    """Prints one line per value."""
    print("\n".join(f"{name}: {value}" for name, value in values.items()), flush=True)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats rows as an aligned table; "-" marks missing values."""
    return tabulate(rows, headers="keys", floatfmt=".3g", missingval="-")


def write_json(args: argparse.Namespace, machine: Mapping[str, Any], **content: Any) -> None:
    """Writes the machine, the options and the unrounded results to ``--json``, if given."""
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key not in ("run", "json")}
        content = {"machine": machine, "settings": settings, **content}
        args.json.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
