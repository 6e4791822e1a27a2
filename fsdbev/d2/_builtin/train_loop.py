"""Built-in ``detectron2.engine.train_loop``: the training loop, its hooks and its iteration."""

from __future__ import annotations

import logging
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
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
        model: module that maps a batch to a dict of losses, which are summed.
        data_loader: iterable of batches.
        optimizer: optimizer of the model.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self._data_loader_iter_obj: Iterator | None = None

    @property
    def _data_loader_iter(self) -> Iterator:
        # The iterator starts the loader's workers, which an evaluation does not need.
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def run_step(self) -> None:
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        losses = self.model(data)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.optimizer.step()

    def _write_metrics(self, losses: dict[str, Tensor], data_time: float) -> None:
        """Stores the losses, averaged over processes, on rank 0.

        Raises:
            FloatingPointError: if their sum is not finite.
        """
        metrics = {name: loss.item() for name, loss in losses.items()}
        gathered = comm.gather({**metrics, "data_time": data_time})
        if not comm.is_main_process():
            return
        storage = get_event_storage()
        # All processes wait for the slowest loader.
        slowest = max(rank.pop("data_time") for rank in gathered)
        means = {name: float(np.mean([rank[name] for rank in gathered])) for name in metrics}
        if not np.isfinite(sum(means.values())):
            raise FloatingPointError(
                f"Loss became infinite or NaN at iteration={self.iter}!\nloss_dict = {means}"
            )
        storage.put_scalars(data_time=slowest, total_loss=sum(means.values()))
        if len(means) > 1:
            storage.put_scalars(**means)

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
        grad_scaler: scaler of the loss; by default a new one.
        precision: dtype of autocast.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.grad_scaler = grad_scaler or torch.amp.GradScaler()
        self.precision = precision

    def run_step(self) -> None:
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(next(self.model.parameters()).device.type, self.precision):
            losses = self.model(data)
        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
