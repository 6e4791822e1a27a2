"""Optimizers and learning rate schedules that configs use."""

from __future__ import annotations

from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch import nn

from fsdbev.d2.solver import WarmupParamScheduler


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Returns all parameters that require gradients, as one group with one weight decay."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def constant_with_warmup(
    *, max_iter: int, warmup_iters: int = 200, warmup_factor: float = 1e-3
) -> ParamScheduler:
    """Returns a schedule of a linear warm-up and a constant rate (docs/model.md, "Training data").

    Args:
        max_iter: iterations of the training.
        warmup_iters: iterations of the warm-up.
        warmup_factor: first multiple of the optimizer's learning rate; 1 after the warm-up.
    """
    # fvcore's ConstantParamScheduler raises at the end of training, where the trainer reads it too.
    constant = LinearParamScheduler(1.0, 1.0)
    return _with_warmup(constant, max_iter, warmup_iters, warmup_factor)


def cosine_with_warmup(
    *,
    max_iter: int,
    warmup_iters: int = 200,
    warmup_factor: float = 1e-3,
    end_factor: float = 0.0,
) -> ParamScheduler:
    """Returns a schedule of half a cosine whose first steps are replaced by a linear warm-up.

    Args:
        max_iter: iterations of the training.
        warmup_iters: iterations of the warm-up.
        warmup_factor: first multiple of the optimizer's learning rate.
        end_factor: last multiple; without a warm-up the cosine starts at 1.
    """
    cosine = CosineParamScheduler(1.0, end_factor)
    return _with_warmup(cosine, max_iter, warmup_iters, warmup_factor)


def _with_warmup(
    scheduler: ParamScheduler, max_iter: int, warmup_iters: int, warmup_factor: float
) -> ParamScheduler:
    """Adds a warm-up, limited to the length of the training."""
    if warmup_iters <= 0:
        return scheduler
    return WarmupParamScheduler(scheduler, warmup_factor, min(1.0, warmup_iters / max_iter))
