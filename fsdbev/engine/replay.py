"""An iteration with a bad number, kept so that it can be run again: a folder of

- ``config.yaml``: the config;
- ``rank<r>.pth``: of each rank the weights as they were before the iteration, its batch, and what
  its losses were.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from fsdbev.checkpoint import load_weights, read_checkpoint, write_checkpoint
from fsdbev.d2.config import LazyConfig
from fsdbev.d2.structures import Instances
from fsdbev.d2.utils import comm
from fsdbev.structures import Boxes3D

from .hooks import seed_iteration
from .model import build_model
from .train_step import BadNumbersError, autocast_dtype

logger = logging.getLogger(__name__)

CONFIG = "config.yaml"
_INSTANCES, _BOXES = "Instances", "Boxes3D"  # keys of what stands for an object of that class


@dataclass(frozen=True)
class Replay:
    """What an iteration that was run again came to.

    Attributes:
        iteration, rank: which.
        recorded, losses: by name, then and now.
        first_bad: the parts of the model whose output was the first that was not finite, outer ones
            last; none if all were.
    """

    iteration: int
    rank: int
    recorded: dict[str, float]
    losses: dict[str, float]
    first_bad: list[str] = field(default_factory=list)


def write_record(
    folder: Path,
    error: BadNumbersError,
    *,
    cfg: DictConfig,
    model: nn.Module,
    seed: int,
    iteration: int,
) -> None:
    """Keeps an iteration; each rank calls it.

    Args:
        model: with the weights from before the iteration.
        seed: of the run, see ``IterationSeed``.
    """
    rank = comm.get_rank()
    folder.mkdir(parents=True, exist_ok=True)
    step = {
        "iteration": iteration,
        "rank": rank,
        "seed": seed,
        "problem": str(error),
        "losses": error.losses,
        "batch": [_plain(sample) for sample in error.batch],
    }
    content = {"model": model.state_dict(), "step": step}
    write_checkpoint(content, str(folder / f"rank{rank}.pth"))
    if rank == 0:
        LazyConfig.save(cfg, str(folder / CONFIG))


def replay(folder: Path, cfg: DictConfig, rank: int = 0) -> Replay:
    """Runs one rank's part of a kept iteration again: forward, with its random numbers.

    Args:
        cfg: the record's config, or a changed one.

    Raises:
        FileNotFoundError, ValueError: ``folder`` is no such record, or has no such rank.
    """
    path = str(folder / f"rank{rank}.pth")
    kept = read_checkpoint(path).get("step")
    if not isinstance(kept, dict):
        raise ValueError(f"{path} is a checkpoint, but no record of an iteration")
    model = build_model(cfg)
    load_weights(model, path, strict=True)
    model.train()
    first_bad = _watch(model)
    device, precision = next(model.parameters()).device, autocast_dtype(cfg.train.amp)
    seed_iteration(kept["seed"], rank, kept["iteration"])
    with torch.autocast(device.type, precision, enabled=precision is not None):
        losses = model([_restored(sample) for sample in kept["batch"]])
    now = {name: float(loss.detach()) for name, loss in losses.items()}
    return Replay(kept["iteration"], rank, kept["losses"], now, first_bad)


def _watch(model: nn.Module) -> list[str]:
    """A list that will hold the parts that were the first with an output that is not finite."""
    found: list[str] = []

    def hook(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            inside = not found or found[-1].startswith(f"{name}.")  # it is in what comes out first
            if inside and not all(map(_is_finite, _tensors(output))):
                found.append(name)

        return look

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(hook(name))
    return found


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, Sequence) else []


def _plain(value: Any) -> Any:
    """In tensors, numbers, text and containers of these; what else there is as text."""
    if isinstance(value, Instances):
        size, values = list(value.image_size), value.get_fields()
        return {_INSTANCES: size, "fields": {name: _plain(v) for name, v in values.items()}}
    if isinstance(value, Boxes3D):
        return {_BOXES: value.tensor.cpu()}
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    logger.warning("%s in a sample is kept as text alone", type(value).__name__)
    return str(value)


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping):
        if _INSTANCES in value:
            fields = {name: _restored(v) for name, v in value["fields"].items()}
            return Instances(tuple(value[_INSTANCES]), **fields)
        if _BOXES in value:
            return Boxes3D(value[_BOXES])
        return {key: _restored(item) for key, item in value.items()}
    return [_restored(item) for item in value] if isinstance(value, list) else value
