"""Builds the model of a config on its device."""

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
    """Returns ``train.device`` as a device of this machine; the CPU, with a warning, without a GPU.

    Args:
        name: a device as PyTorch names it, such as "cuda" or "cpu".
    """
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        logger.warning("train.device is %r, but no GPU is available; running on the CPU", name)
        return torch.device("cpu")
    return device


def build_model(cfg: DictConfig) -> nn.Module:
    """Builds ``cfg.model`` on ``cfg.train.device``.

    Applies ``cfg.train.channels_last`` (memory format of the weights) and ``cfg.train.compile``.
    """
    model = instantiate(cfg.model).to(resolve_device(cfg.train.device))
    if cfg.train.get("channels_last", False):
        model = model.to(memory_format=torch.channels_last)
    compiled = cfg.train.get("compile", {})
    if compiled.get("enabled", False):
        compile_parts(model, compiled.parts, backend=compiled.backend, mode=compiled.mode)
    return model


def compile_parts(model: nn.Module, parts: Sequence[str] | None, **options: Any) -> None:
    """Compiles children of a model in place with ``torch.compile``.

    Names of parameters do not change. Deep copies of the model, such as the EMA model, are not
    compiled.

    Args:
        model: the model.
        parts: names of its children; None for all children with parameters.
        options: keyword arguments of ``torch.compile``.

    Raises:
        ValueError: the model has no child of such a name.
    """
    # Part by part: the code between the parts (calibration, labels, boxes) is Python on small
    # tensors, which compilation does not speed up.
    children = dict(model.named_children())
    if parts is None:
        parts = [name for name, child in children.items() if list(child.parameters())]
    for name in parts:
        if name not in children:
            raise ValueError(
                f"train.compile.parts names {name!r}; the model has {sorted(children)}"
            )
        _compile_module(children[name], options)
    logger.info(
        "The first iteration also compiles %s. This takes minutes, on a CPU about four minutes of "
        "one core for configs/fsdbev_tiny_synthetic.py; later runs reuse the results",
        ", ".join(parts) or "nothing",
    )


def _compile_module(module: nn.Module, options: dict[str, Any]) -> None:
    # torch.compile skips frames of PyTorch's own code, so a container such as nn.Sequential would
    # run uncompiled. Its children are compiled instead.
    if type(module).forward.__module__.startswith("torch."):
        for child in module.children():
            _compile_module(child, options)
    else:
        # nn.Module.compile, not torch.compile(module), whose wrapper renames all parameters.
        module.compile(**options)
