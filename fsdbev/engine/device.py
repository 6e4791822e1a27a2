"""Where a config runs."""

from __future__ import annotations

import logging

import torch

logger = logging.getLogger(__name__)


def resolve_device(name: str) -> torch.device:
    """``train.device`` as a device of this machine: the CPU where there is no GPU."""
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        logger.warning("train.device is %r, but there is no GPU here: running on the CPU", name)
        return torch.device("cpu")
    return device
