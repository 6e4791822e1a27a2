"""Optimizers from configs."""

from __future__ import annotations

import copy

import torch
from omegaconf import DictConfig
from torch import nn

from fsdbev.d2.config import instantiate


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """All parameters that require gradients, as one group: weight decay is the same for all."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def build_optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that ``cfg`` describes; ``model`` becomes the argument ``cfg.params.model``."""
    cfg = copy.deepcopy(cfg)
    cfg.params.model = model
    return instantiate(cfg)
