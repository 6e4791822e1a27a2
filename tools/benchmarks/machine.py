"""The machine that a benchmark runs on: its clock, memory and peak rate, and what it can do."""

from __future__ import annotations

import time
from pathlib import Path

import torch

#: Edge of the matrices whose product shows the peak.
_MATRIX = {"cpu": 2048, "cuda": 8192}
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        _CLEAR.write_text("5")  # VmHWM starts again from what is resident


def peak_memory(device: torch.device) -> float | None:
    """Bytes, the most since the reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not _CLEAR.exists():
        return None
    line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GMAC/s of the best of a few products of large matrices, in TF32 where convolutions are."""
    edge = _MATRIX[device.type]
    a, b = (torch.rand(edge, edge, device=device).to(dtype) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        seconds = []
        for _ in range(4):
            begin = now(device)
            torch.mm(a, b)
            seconds.append(now(device) - begin)
        return edge**3 / min(seconds) / 1e9
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def check_device(name: str) -> None:
    """Raises ValueError where ``--device`` asks for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this PyTorch finds no GPU; --device cpu needs none")


def check_folder(path: Path | None) -> None:
    """Raises FileNotFoundError where ``--json`` is in no folder, before anything is measured."""
    if path and not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--json: there is no folder {path.absolute().parent}")
