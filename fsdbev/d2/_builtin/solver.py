"""Built-in ``detectron2.solver``: schedules that multiply the optimizer's learning rates."""

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
    """Scheduler with a warm-up at its start.

    Args:
        scheduler: scheduler after the warm-up.
        warmup_factor: first value, as a multiple of the scheduler's value at 0.
        warmup_length: length of the warm-up as a fraction of the training, in [0, 1].
        warmup_method: ``"linear"``, up to the scheduler's value at the end of the warm-up, or
            ``"constant"``.
        rescale_interval: whether the whole scheduler is compressed into the time after the
            warm-up; otherwise the warm-up replaces its first part.

    Raises:
        ValueError: if ``warmup_method`` has another value.
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
            raise ValueError(f"warmup_method must be one of {[*warmups]}, got {warmup_method!r}")
        super().__init__(
            [warmups[warmup_method], scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Scheduler that multiplies the initial learning rates by ``multiplier(iter / max_iter)``.

    Args:
        optimizer: optimizer with the initial learning rates.
        multiplier: fvcore scheduler over [0, 1].
        max_iter: last iteration of the training.
        last_iter: last iteration that was done before, for a resumed training.

    Raises:
        ValueError: if ``multiplier`` is not a ``ParamScheduler``.
    """

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
        # fvcore's schedulers have no state; PyTorch's own state_dict would pickle the object.
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float]:
        multiplier = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * multiplier for base_lr in self.base_lrs]
