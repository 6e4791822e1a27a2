"""The model of a config, placed where it runs."""

from __future__ import annotations

import logging

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
    """``cfg.model`` on ``cfg.train.device``, weights laid out as ``train.channels_last`` says."""
    model = instantiate(cfg.model).to(resolve_device(cfg.train.device))
    if cfg.train.get("channels_last", False):
        model = model.to(memory_format=torch.channels_last)
    return model
