"""Built-in side of ``detectron2.solver``: learning rate as a multiple of what the optimizer has."""

from __future__ import annotations

import torch
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch.optim.lr_scheduler import LRScheduler


class WarmupParamScheduler(CompositeParamScheduler):
    """A scheduler whose first part is replaced by a warm-up to the value it has after that part.

    Args:
        warmup_factor: value at the start, as a multiple of the scheduler's own start.
        warmup_length: share of the training that is warm-up, in [0, 1].
        warmup_method: ``"linear"`` or ``"constant"``.
        rescale_interval: the scheduler starts after the warm-up instead of running beneath it.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        start = warmup_factor * scheduler(0.0)
        end = scheduler(0.0 if rescale_interval else warmup_length)
        warmups = {
            "linear": LinearParamScheduler(start, end),
            "constant": ConstantParamScheduler(start),
        }
        if warmup_method not in warmups:
            raise ValueError(f"warmup_method is {warmup_method!r}; it must be one of {[*warmups]}")
        super().__init__(
            [warmups[warmup_method], scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Sets every learning rate to its initial value times ``multiplier(iteration / max_iter)``."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        multiplier: ParamScheduler,
        max_iter: int,
        last_iter: int = -1,
    ) -> None:
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(f"multiplier must be a fvcore ParamScheduler, got {multiplier!r}")
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict:
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float]:
        multiplier = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * multiplier for base_lr in self.base_lrs]
