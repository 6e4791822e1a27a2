"""Conditions under which a resumed training reproduces the uninterrupted one bit by bit.

A checkpoint contains weights, optimizer, gradient scaler and averaged weights. The learning rate
depends only on the iteration, and each random number only on (seed, rank, iteration) or (seed,
number of the draw). A checkpoint therefore needs the seed and the number of draws in addition, but
no state of a random generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from fsdbev.utils.collect_env import cpu_model


@dataclass(frozen=True)
class RunConditions:
    """Properties of a run that influence the bits of its results.

    Attributes:
        world_size: number of processes.
        batch_size: samples per iteration over all processes.
        precision: dtype of autocast, e.g. ``bfloat16``; "" without autocast.
        device: device type, e.g. ``cpu``.
        processor: name of the main process's GPU, or of its CPU with the instruction set that
            PyTorch uses.
        torch: version of PyTorch.
        threads: CPU threads per process; 0 on other devices.
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
    ) -> RunConditions:
        """Returns the facts of this process."""
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
        """Returns a dict of plain values, as a checkpoint stores it."""
        # torch.__version__ is a subclass of str, which weights_only loading does not accept.
        return {**asdict(self), "torch": str(self.torch)}


def _processor(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{cpu_model()}, {torch.backends.cpu.get_cpu_capability()}"


#: Field of ``RunConditions`` -> consequence of a change, for the log.
_CONSEQUENCES = {
    "world_size": (
        "batches have the same samples, but BatchNorm normalises over different shares of them, "
        "random numbers are drawn for different ranks, and sums round differently"
    ),
    "batch_size": (
        "the data continues after the last sample drawn; learning rate, schedule and EMA still "
        "count iterations, so adapt them to the new batch size"
    ),
    "precision": "values round differently; a loss scale starts from its initial value",
    "device": "values round differently",
    "processor": "values may round differently",
    "torch": "values may round differently",
    "threads": "sums may round differently",
}


def describe_changes(before: Mapping[str, Any], now: RunConditions) -> list[str]:
    """Returns one sentence for each changed fact, with the consequence.

    Args:
        before: ``to_dict`` of the run that wrote the checkpoint; missing entries are not compared.
        now: facts of the resumed run.
    """
    current = now.to_dict()
    return [
        f"{field.name} was {before[field.name]!r} and is {current[field.name]!r}: "
        f"{_CONSEQUENCES[field.name]}"
        for field in fields(now)
        if field.name in before and before[field.name] != current[field.name]
    ]
