"""Built-in ``detectron2.engine.hooks``."""

from __future__ import annotations

import datetime
import logging
import math
import operator
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.common.timer import Timer

from . import comm
from .events import EventStorage, EventWriter
from .file_io import PathManager
from .solver import LRMultiplier
from .train_loop import HookBase, TrainerBase

__all__ = [
    "BestCheckpointer",
    "CallbackHook",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "TorchMemoryStats",
    "TorchProfiler",
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
                # The default argument binds this callback; a closure would see the last one.
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
        # Known only now; fvcore saves the final model at this iteration.
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class LRScheduler(HookBase):
    """Hook that stores a learning rate as ``lr`` and steps the scheduler after every iteration.

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
            # trainer.iter is the next iteration; the constructor steps from last_iter to it.
            self._scheduler = LRMultiplier(
                self._optimizer, self.scheduler, trainer.max_iter, last_iter=trainer.iter - 1
            )
        self._logged_group = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: torch.optim.Optimizer) -> int:
        """Returns the index of the parameter group whose learning rate is logged.

        It is the first of the groups with the most parameters or, where every group has one
        parameter, the first group with the most common learning rate.
        """
        groups = optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        group = self._optimizer.param_groups[self._logged_group]
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
        if _is_evaluated(self.trainer, self._period):
            self._evaluate()

    def after_train(self) -> None:
        # A training that failed before its last iteration is not evaluated.
        if self._eval_after_train and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._evaluate()

    def _evaluate(self) -> None:
        scalars = dict(_flatten(self._function() or {}))
        self.trainer.storage.put_scalars(**scalars, smoothing_hint=False)
        comm.synchronize()  # ranks may have evaluated for different lengths of time


def _is_evaluated(trainer: TrainerBase, period: int) -> bool:
    """Returns whether ``EvalHook`` evaluates in the ``after_step`` of this iteration."""
    done = trainer.iter + 1
    # after_train evaluates after the last iteration, unless the training failed.
    return period > 0 and done % period == 0 and done != trainer.max_iter


def _flatten(results: Mapping, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields (name, value) of all numbers in a nested dict, the keys of a path joined by "/"."""
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", float(value)


class BestCheckpointer(HookBase):
    """Hook that saves a checkpoint whenever a metric is better than ever before.

    Register it after the ``EvalHook`` that stores the metric.

    Args:
        eval_period: period of the ``EvalHook``.
        checkpointer: saves the checkpoint, with the metric's ``iteration``.
        val_metric: name of the metric in the storage, such as ``nuscenes/NDS``.
        mode: ``"max"`` or ``"min"``, whichever is better.
        file_prefix: name of the checkpoint; a better one overwrites it.

    Attributes:
        best_metric: best finite value so far, or None.
        best_iter: its iteration, or None.

    Raises:
        AssertionError: if ``mode`` has another value.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ) -> None:
        if mode not in ("max", "min"):
            raise AssertionError(f"mode must be 'max' or 'min', got {mode!r}")
        self._period = eval_period
        self._checkpointer = checkpointer
        self._metric = val_metric
        self._is_better = operator.gt if mode == "max" else operator.lt
        self._file_prefix = file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def after_step(self) -> None:
        if _is_evaluated(self.trainer, self._period):
            self._save_if_best()

    def after_train(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._save_if_best()

    def _save_if_best(self) -> None:
        name, best = self._metric, self.best_metric
        value, iteration = self.trainer.storage.latest().get(name, (math.nan, None))
        if iteration is None:
            logger.warning("No metric %s is stored: the best checkpoint cannot be found", name)
        elif math.isfinite(value) and (best is None or self._is_better(value, best)):
            self.best_metric, self.best_iter = value, iteration
            self._checkpointer.save(self._file_prefix, iteration=iteration)
            logger.info("Saved the best model: %s is %.5f; the best was %s", name, value, best)
        else:
            logger.info("Not the best model: %s is %.5f; the best is %s", name, value, best)


class PreciseBN(HookBase):
    """Hook that replaces BatchNorm's running averages by the statistics of some batches.

    It runs periodically and after the last iteration, and changes the BatchNorm layers in training
    mode. A model without any disables it.

    Args:
        period: number of iterations between updates; with 0, only the last iteration is followed
            by one.
        model: the model.
        data_loader: yields batches for the model; every update continues where the last one ended.
        num_iter: number of batches per update.
    """

    def __init__(
        self, period: int, model: torch.nn.Module, data_loader: Iterable, num_iter: int
    ) -> None:
        self._period = period
        self._model = model
        self._data_loader = data_loader
        self._data_iter: Iterator | None = None
        self._num_iter = num_iter
        # Imported here: fvcore.nn compiles losses for TorchScript, with deprecation warnings.
        from fvcore.nn.precise_bn import get_bn_modules

        self._disabled = not get_bn_modules(model)
        if self._disabled:
            logger.info("PreciseBN is disabled: the model has no BatchNorm layer in training mode")

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            self.update_stats()

    def update_stats(self) -> None:
        """Updates the statistics now."""
        if self._disabled:
            return
        from fvcore.nn.precise_bn import update_bn_stats

        if self._data_iter is None:
            self._data_iter = iter(self._data_loader)
        logger.info("PreciseBN computes statistics over %d batches", self._num_iter)
        with EventStorage():  # discards what the model stores in these passes
            update_bn_stats(self._model, self._data_iter, self._num_iter)


class TorchProfiler(HookBase):
    """Hook that profiles iterations with ``torch.profiler``.

    Args:
        enable_predicate: returns for the trainer whether the next iteration is profiled.
        output_dir: folder of the traces.
        activities: as in ``torch.profiler.profile``.
        save_tensorboard: whether to write traces for TensorBoard to ``<output_dir>/log``;
            otherwise ``<output_dir>/profiler-trace-iter<i>.json``, for ``chrome://tracing``.
    """

    def __init__(
        self,
        enable_predicate: Callable[[TrainerBase], bool],
        output_dir: str,
        *,
        activities: Iterable[torch.profiler.ProfilerActivity] | None = None,
        save_tensorboard: bool = True,
    ) -> None:
        self._enable_predicate = enable_predicate
        self._output_dir = output_dir
        self._activities = activities
        self._save_tensorboard = save_tensorboard
        self._profiler: torch.profiler.profile | None = None

    def before_step(self) -> None:
        if not self._enable_predicate(self.trainer):
            return
        name, on_trace_ready = f"profiler-tensorboard-iter{self.trainer.iter}", None
        if self._save_tensorboard:
            on_trace_ready = torch.profiler.tensorboard_trace_handler(
                os.path.join(self._output_dir, "log", name), f"worker{comm.get_rank()}"
            )
        self._profiler = torch.profiler.profile(
            activities=self._activities,
            on_trace_ready=on_trace_ready,
            record_shapes=True,
            profile_memory=True,
            with_stack=True,
            with_flops=True,
        )
        self._profiler.start()

    def after_step(self) -> None:
        profiler, self._profiler = self._profiler, None
        if profiler is None:
            return
        profiler.stop()
        if not self._save_tensorboard:
            PathManager.mkdirs(self._output_dir)
            name = f"profiler-trace-iter{self.trainer.iter}.json"
            profiler.export_chrome_trace(os.path.join(self._output_dir, name))


class TorchMemoryStats(HookBase):
    """Hook that logs the GPU memory, with its peak since the last message; without a GPU, nothing.

    Args:
        period: number of iterations between messages; the last iteration is also logged.
        max_runs: number of messages. ``torch.cuda.memory_summary`` follows the last one.
    """

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        self._period = period
        self._max_runs = max_runs
        self._runs = 0

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        is_due = done % self._period == 0 or done == self.trainer.max_iter
        if not (is_due and self._runs < self._max_runs and torch.cuda.is_available()):
            return
        names = ("max_memory_reserved", "memory_reserved", "max_memory_allocated")
        sizes = [
            f"{name}: {getattr(torch.cuda, name)() / 2**20:.0f}MB"
            for name in (*names, "memory_allocated")
        ]
        logger.info("iter: %d  %s", self.trainer.iter, "  ".join(sizes))
        self._runs += 1
        if self._runs == self._max_runs:
            logger.info("%s", torch.cuda.memory_summary())
        torch.cuda.reset_peak_memory_stats()
