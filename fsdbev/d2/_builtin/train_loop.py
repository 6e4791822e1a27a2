"""Built-in ``detectron2.engine.train_loop``: the training loop, its hooks and its iteration."""

from __future__ import annotations

import logging
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import comm
from .events import EventStorage, get_event_storage

logger = logging.getLogger(__name__)


class HookBase:
    """Base class of hooks; ``self.trainer`` is the trainer with which the hook is registered."""

    trainer: TrainerBase

    def before_train(self) -> None:
        """Called before the first iteration."""

    def after_train(self) -> None:
        """Called after the last iteration, or after an iteration that raised an exception."""

    def before_step(self) -> None:
        """Called before each iteration."""

    def after_backward(self) -> None:
        """Called between the backward pass and the optimizer step."""

    def after_step(self) -> None:
        """Called after each iteration."""

    def state_dict(self) -> dict:
        """Returns the hook's state for checkpoints; a hook with state has ``load_state_dict``."""
        return {}


class TrainerBase(ABC):
    """Training loop with hooks. ``iter`` counts from ``start_iter`` up to ``max_iter``."""

    max_iter: int
    storage: EventStorage

    def __init__(self) -> None:
        self.iter = self.start_iter = 0
        self._hooks: list[HookBase] = []

    def register_hooks(self, hooks: Iterable[HookBase | None]) -> None:
        """Appends hooks, which are called in the order of registration; skips None."""
        for hook in hooks:
            if hook is not None:
                # A weak reference, because trainer and hook would own each other.
                hook.trainer = weakref.proxy(self)
                self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Runs the iterations ``start_iter`` to ``max_iter - 1``."""
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                # The attribute is the loop variable, since hooks and checkpoints read it.
                for self.iter in range(start_iter, max_iter):  # noqa: B020
                    self.before_step()
                    self.run_step()
                    self.after_step()
                # As in Detectron2, iter == max_iter shows after_train that the training succeeded.
                self.iter += 1
            except Exception:
                logger.exception("Exception during training:")
                raise
            finally:
                self.after_train()

    @abstractmethod
    def run_step(self) -> None:
        """Runs one iteration."""

    def before_train(self) -> None:
        self._call("before_train")

    def after_train(self) -> None:
        # Equals max_iter after the last iteration, which CommonMetricPrinter checks.
        self.storage.iter = self.iter
        self._call("after_train")

    def before_step(self) -> None:
        self.storage.iter = self.iter
        self._call("before_step")

    def after_backward(self) -> None:
        self._call("after_backward")

    def after_step(self) -> None:
        self._call("after_step")

    def _call(self, method: str) -> None:
        for hook in self._hooks:
            getattr(hook, method)()

    def state_dict(self) -> dict[str, Any]:
        # As in Detectron2, states are stored by class, that of the first hook of each class.
        states: dict[str, dict] = {}
        for hook in self._hooks:
            if state := hook.state_dict():
                states.setdefault(type(hook).__qualname__, state)
        return {"iteration": self.iter, **({"hooks": states} if states else {})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.iter = state_dict["iteration"]
        hooks = {type(hook).__qualname__: hook for hook in reversed(self._hooks)}
        for name, state in state_dict.get("hooks", {}).items():
            if name in hooks:
                hooks[name].load_state_dict(state)
            else:
                logger.warning("The state of hook %s is ignored: no such hook is registered", name)


class SimpleTrainer(TrainerBase):
    """Trainer with one model, one data loader and one optimizer.

    Args:
        model: module that maps a batch to a dict of losses, which are summed, or to one loss.
        data_loader: iterable of batches.
        optimizer: optimizer of the model.
        gather_metric_period: number of iterations after which losses are gathered and stored.
        zero_grad_before_forward: whether gradients are reset before the forward pass and not
            after it, which needs less memory.
        async_write_metrics: whether a thread gathers and stores the losses. A loss that is not
            finite then raises its error one iteration later.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self._data_loader_iter_obj: Iterator | None = None
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        # One thread, so that iterations are stored in their order; submit starts it.
        self.concurrent_executor = ThreadPoolExecutor(max_workers=1)
        self._pending_write: Future | None = None

    @property
    def _data_loader_iter(self) -> Iterator:
        # The iterator starts the loader's workers, which an evaluation does not need.
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable]) -> None:
        """Replaces the data loader by the one that ``data_loader_builder()`` returns."""
        # Released first: the old loader's workers end before the new one's start.
        self.data_loader = self._data_loader_iter_obj = None
        self.data_loader = data_loader_builder()

    def run_step(self) -> None:
        if not self.model.training:
            raise AssertionError(f"[{type(self).__name__}] model was changed to eval mode")
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        losses = self._forward(data)
        if isinstance(losses, Tensor):
            losses = {"total_loss": losses}
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        self._backward(sum(losses.values()))
        self.after_backward()
        # Before the step: a loss that is not finite raises an error while the weights are intact.
        if self.async_write_metrics:
            self._finish_write()
            self._pending_write = self.concurrent_executor.submit(
                self._write_metrics, losses, data_time, iter=self.iter
            )
        else:
            self._write_metrics(losses, data_time)
        self._update_weights()

    def _forward(self, data: Any) -> Mapping[str, Tensor] | Tensor:
        return self.model(data)

    def _backward(self, loss: Tensor) -> None:
        loss.backward()

    def _update_weights(self) -> None:
        self.optimizer.step()

    def after_train(self) -> None:
        try:
            self._finish_write()  # before writers report the last values
        finally:
            super().after_train()

    def _finish_write(self) -> None:
        """Waits until the thread has stored its losses; raises its error."""
        pending, self._pending_write = self._pending_write, None
        if pending is not None:
            pending.result()

    def _write_metrics(
        self,
        loss_dict: Mapping[str, Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        """Calls ``write_metrics`` every ``gather_metric_period`` iterations."""
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period == 0:
            SimpleTrainer.write_metrics(loss_dict, data_time, iteration, prefix)

    @staticmethod
    def write_metrics(
        loss_dict: Mapping[str, Tensor], data_time: float, cur_iter: int, prefix: str = ""
    ) -> None:
        """Stores the losses, averaged over processes, on rank 0.

        Args:
            loss_dict: name -> () loss of this process.
            data_time: time (s) for which this process waited for its batch.
            cur_iter: iteration of the losses.
            prefix: prefix of the name ``total_loss``.

        Raises:
            FloatingPointError: if their sum is not finite.
        """
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        metrics = {name: loss.item() for name, loss in loss_dict.items()}
        gathered = comm.gather({**metrics, "data_time": data_time})
        if not comm.is_main_process():
            return
        # All processes wait for the slowest loader.
        slowest = max(rank.pop("data_time") for rank in gathered)
        means = {name: float(np.mean([rank[name] for rank in gathered])) for name in metrics}
        if not np.isfinite(sum(means.values())):
            raise FloatingPointError(
                f"Loss became infinite or NaN at iteration={cur_iter}!\nloss_dict = {means}"
            )
        scalars = {"data_time": slowest, f"{prefix}total_loss": sum(means.values())}
        storage.put_scalars(**scalars, cur_iter=cur_iter)
        # As in Detectron2: a single loss is already stored as total_loss.
        if len(means) > 1:
            storage.put_scalars(**means, cur_iter=cur_iter)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])


class AMPTrainer(SimpleTrainer):
    """``SimpleTrainer`` with automatic mixed precision. Unlike Detectron2's, it also runs on CPUs.

    Args:
        model: as in ``SimpleTrainer``.
        data_loader: as in ``SimpleTrainer``.
        optimizer: as in ``SimpleTrainer``.
        gather_metric_period: as in ``SimpleTrainer``.
        zero_grad_before_forward: as in ``SimpleTrainer``.
        grad_scaler: scaler of the loss; by default a new one.
        precision: dtype of autocast.
        log_grad_scaler: whether the scale is stored as ``[metric]grad_scaler``.
        async_write_metrics: as in ``SimpleTrainer``; Detectron2's ``AMPTrainer`` ignores it.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        super().__init__(
            model,
            data_loader,
            optimizer,
            gather_metric_period,
            zero_grad_before_forward,
            async_write_metrics,
        )
        self._device_type = next(model.parameters()).device.type
        self.grad_scaler = grad_scaler or torch.amp.GradScaler(self._device_type)
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    def _forward(self, data: Any) -> Mapping[str, Tensor] | Tensor:
        # Forward pass only: backward operations run in the dtype of their forward operations.
        with torch.autocast(self._device_type, self.precision):
            return self.model(data)

    def _backward(self, loss: Tensor) -> None:
        self.grad_scaler.scale(loss).backward()
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())

    def _update_weights(self) -> None:
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
