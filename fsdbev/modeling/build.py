"""The model of a config, placed where it runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from fsdbev.d2.config import instantiate

logger = logging.getLogger(__name__)


def resolve_device(name: str) -> torch.device:
    """``train.device`` as a device of this machine: the CPU where there is no GPU."""
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        logger.warning("train.device is %r, but there is no GPU here: running on the CPU", name)
        return torch.device("cpu")
    return device


def build_model(cfg: DictConfig) -> nn.Module:
    """``cfg.model`` on ``cfg.train.device``, weights laid out as ``train.channels_last`` says and
    parts compiled as ``train.compile`` says."""
    model = instantiate(cfg.model).to(resolve_device(cfg.train.device))
    if cfg.train.get("channels_last", False):
        model = model.to(memory_format=torch.channels_last)
    compiled = cfg.train.get("compile", {})
    if compiled.get("enabled", False):
        compile_parts(model, compiled.parts, backend=compiled.backend, mode=compiled.mode)
    return model


def compile_parts(model: nn.Module, parts: Sequence[str] | None, **options: Any) -> None:
    """Lets ``torch.compile``, with ``options``, run the named children of a model, or all that have
    weights; names of weights stay.

    Part by part, since what lies between them (calibration, labels, boxes) is Python on small
    tensors. Copies of the model, such as the average of its weights, run as they are.

    Raises:
        ValueError: the model has no such part.
    """
    children = dict(model.named_children())
    if parts is None:
        parts = [name for name, child in children.items() if list(child.parameters())]
    for name in parts:
        if name not in children:
            raise ValueError(
                f"train.compile.parts names {name!r}; the model has {sorted(children)}"
            )
        _compile(children[name], options)


def _compile(module: nn.Module, options: dict[str, Any]) -> None:
    """PyTorch's own containers run as they are, and what they hold is compiled: torch.compile does
    not begin in PyTorch's own code."""
    if type(module).forward.__module__.startswith("torch."):
        for child in module.children():
            _compile(child, options)
    else:
        module.compile(**options)
