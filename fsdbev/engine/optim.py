"""Optimizers from configs."""

from __future__ import annotations

import copy

import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from omegaconf import DictConfig
from torch import nn

from fsdbev.d2.config import instantiate
from fsdbev.d2.solver import WarmupParamScheduler


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """All parameters that require gradients, as one group: weight decay is the same for all."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def build_optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that ``cfg`` describes; ``model`` becomes the argument ``cfg.params.model``."""
    cfg = copy.deepcopy(cfg)
    cfg.params.model = model
    return instantiate(cfg)


def constant_with_warmup(
    *, max_iter: int, warmup_iters: int = 200, warmup_factor: float = 1e-3
) -> ParamScheduler:
    """``warmup_factor`` to 1 in ``warmup_iters`` linear steps, then 1 (SPEC section 10)."""
    # fvcore's ConstantParamScheduler refuses the end of training, which the trainer asks for.
    constant = LinearParamScheduler(1.0, 1.0)
    return _with_warmup(constant, max_iter, warmup_iters, warmup_factor)


def cosine_with_warmup(
    *,
    max_iter: int,
    warmup_iters: int = 200,
    warmup_factor: float = 1e-3,
    end_factor: float = 0.0,
) -> ParamScheduler:
    """Half a cosine from 1 at the start to ``end_factor`` at the end, its first ``warmup_iters``
    steps replaced by a linear rise from ``warmup_factor``."""
    cosine = CosineParamScheduler(1.0, end_factor)
    return _with_warmup(cosine, max_iter, warmup_iters, warmup_factor)


def _with_warmup(
    scheduler: ParamScheduler, max_iter: int, warmup_iters: int, warmup_factor: float
) -> ParamScheduler:
    """In a training shorter than the warm-up, the warm-up is as long as the training."""
    if warmup_iters <= 0:
        return scheduler
    return WarmupParamScheduler(scheduler, warmup_factor, min(1.0, warmup_iters / max_iter))
