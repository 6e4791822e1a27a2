"""What a training must be the same in to go on exactly as it would have, and where its data is.

Weights, optimizer, scaler and average are in the checkpoint. The schedule follows from the
iteration, and every random number from (seed, rank, iteration) or (seed, number of the draw): so
seed and position are all that is left to keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from fsdbev.utils.collect_env import cpu_model


@dataclass(frozen=True)
class RunFacts:
    """How a training runs.

    Attributes:
        world_size: processes.
        batch_size: samples of an iteration, over all processes.
        precision: type of autocast; "" without.
        device: type, as ``cpu``.
        processor: what of that type the main process runs on; for a CPU with the instructions that
            PyTorch uses.
        torch: its version.
        threads: of a process on the CPU.
    """

    world_size: int
    batch_size: int
    precision: str
    device: str
    processor: str
    torch: str
    threads: int

    @classmethod
    def now(
        cls, *, world_size: int, batch_size: int, precision: torch.dtype | None, device: str
    ) -> RunFacts:
        """Of this process."""
        return cls(
            world_size,
            batch_size,
            str(precision).removeprefix("torch.") if precision else "",
            device,
            _processor(device),
            torch.__version__,
            torch.get_num_threads() if device == "cpu" else 0,
        )

    def to_dict(self) -> dict[str, Any]:
        """In plain values."""
        return {**asdict(self), "torch": str(self.torch)}


def _processor(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{cpu_model()}, {torch.backends.cpu.get_cpu_capability()}"


_CONSEQUENCES = {
    "world_size": (
        "batches are of the same samples, but BatchNorm normalises over other shares of them, "
        "random numbers are drawn for other ranks, and sums are rounded otherwise"
    ),
    "batch_size": (
        "the data goes on after the last sample drawn; learning rate, schedule and average still "
        "count iterations, so set them for the new batch"
    ),
    "precision": "numbers are rounded otherwise; a loss scale that there was none of starts anew",
    "device": "numbers are rounded otherwise",
    "processor": "numbers may be rounded otherwise",
    "torch": "numbers may be rounded otherwise",
    "threads": "sums may be rounded otherwise",
}


def differences(before: Mapping[str, Any], now: RunFacts) -> list[str]:
    """One sentence for each fact that is not as it was, with what follows from it.

    Args:
        before: ``to_dict`` of the run that left the checkpoint; what it lacks is not compared.
    """
    current = now.to_dict()
    return [
        f"{field.name} was {before[field.name]!r} and is {current[field.name]!r}: "
        f"{_CONSEQUENCES[field.name]}"
        for field in fields(now)
        if field.name in before and before[field.name] != current[field.name]
    ]
