"""Built-in ``detectron2.engine.hooks``."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.common.timer import Timer

from . import comm
from .events import EventWriter
from .solver import LRMultiplier
from .train_loop import HookBase, TrainerBase

__all__ = [
    "CallbackHook",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
]

logger = logging.getLogger(__name__)

Callback = Callable[[TrainerBase], None]


class CallbackHook(HookBase):
    """Hook that calls functions with the trainer as argument."""

    def __init__(
        self,
        *,
        before_train: Callback | None = None,
        after_train: Callback | None = None,
        before_step: Callback | None = None,
        after_step: Callback | None = None,
    ) -> None:
        callbacks = {
            "before_train": before_train,
            "after_train": after_train,
            "before_step": before_step,
            "after_step": after_step,
        }
        for method, callback in callbacks.items():
            if callback is not None:
                setattr(self, method, lambda callback=callback: callback(self.trainer))


class IterationTimer(HookBase):
    """Hook that stores the seconds of each iteration as ``time`` and logs the speed at the end.

    Register it first, so that the time excludes the ``after_step`` of the other hooks.

    Args:
        warmup_iter: number of iterations at the start that are not measured.
    """

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = warmup_iter
        self._step_timer = Timer()
        self._total_timer = Timer()

    def before_train(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._timed = 0
        self._total_timer.reset()
        self._total_timer.pause()

    def before_step(self) -> None:
        self._step_timer.reset()
        self._total_timer.resume()

    def after_step(self) -> None:
        if self.trainer.iter + 1 - self.trainer.start_iter < self._warmup_iter:
            self._restart()
            return
        self._total_timer.pause()
        self._timed += 1
        self.trainer.storage.put_scalars(time=self._step_timer.seconds())

    def after_train(self) -> None:
        total, in_steps = time.perf_counter() - self._start, self._total_timer.seconds()
        if self._timed:
            logger.info("Overall training speed: %.4f s / it", in_steps / self._timed)
        durations = [datetime.timedelta(seconds=int(s)) for s in (total, total - in_steps)]
        logger.info("Total training time: %s (%s on hooks)", *durations)


class PeriodicWriter(HookBase):
    """Hook that calls the writers every ``period`` iterations and after the last one."""

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.write()  # values that other hooks stored in their after_train
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """fvcore's ``PeriodicCheckpointer`` as a hook; also saves after the last iteration."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class LRScheduler(HookBase):
    """Hook that stores the learning rate as ``lr`` and steps the scheduler after every iteration.

    Args:
        optimizer: by default ``trainer.optimizer``.
        scheduler: a scheduler of PyTorch, or a fvcore ``ParamScheduler`` that multiplies the
            optimizer's learning rates; by default ``trainer.scheduler``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: torch.optim.lr_scheduler.LRScheduler | ParamScheduler | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler

    @property
    def scheduler(self) -> Any:
        return self._scheduler or self.trainer.scheduler

    def before_train(self) -> None:
        self._optimizer = self._optimizer or self.trainer.optimizer
        if isinstance(self.scheduler, ParamScheduler):
            trainer = self.trainer
            self._scheduler = LRMultiplier(
                self._optimizer, self.scheduler, trainer.max_iter, last_iter=trainer.iter - 1
            )

    def after_step(self) -> None:
        # As in Detectron2, the group with most parameters represents the learning rate.
        group = max(self._optimizer.param_groups, key=lambda group: len(group["params"]))
        self.trainer.storage.put_scalar("lr", group["lr"], smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.LRScheduler):
            return self.scheduler.state_dict()
        return {}

    def load_state_dict(self, state_dict: dict) -> None:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.LRScheduler):
            self.scheduler.load_state_dict(state_dict)


class EvalHook(HookBase):
    """Hook that evaluates periodically and stores the results as scalars.

    All processes must have this hook, because it synchronizes them.

    Args:
        eval_period: number of iterations between evaluations; 0 disables them.
        eval_function: function without arguments that returns a nested dict of numbers or None.
        eval_after_train: whether it also runs after the last iteration.
    """

    def __init__(
        self,
        eval_period: int,
        eval_function: Callable[[], Mapping | None],
        eval_after_train: bool = True,
    ) -> None:
        self._period = eval_period
        self._function = eval_function
        self._eval_after_train = eval_after_train

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._evaluate()

    def after_train(self) -> None:
        # A training that failed before its last iteration is not evaluated.
        if self._eval_after_train and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._evaluate()

    def _evaluate(self) -> None:
        scalars = dict(_flatten(self._function() or {}))
        self.trainer.storage.put_scalars(**scalars, smoothing_hint=False)
        comm.synchronize()  # ranks may have evaluated for different lengths of time


def _flatten(results: Mapping, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields (name, value) of all numbers in a nested dict, the keys of a path joined by "/"."""
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", float(value)
