"""One training iteration."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from fsdbev.d2.engine import AMPTrainer
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.events import get_event_storage

from .step_report import StepReport, describe_problem, exchange

logger = logging.getLogger(__name__)


class BadNumbersError(FloatingPointError):
    """More iterations had to be skipped than a training allows, for values that are not finite.

    Attributes:
        batch: this rank's samples of the iteration that exceeded the limit.
        losses: name -> this rank's loss in that iteration.
    """

    def __init__(self, message: str, batch: Sequence[Any], losses: dict[str, float]) -> None:
        super().__init__(message)
        self.batch = batch
        self.losses = losses


class TrainStep(AMPTrainer):
    """Forward pass, backward pass and optimizer step, on any device, in full or mixed precision.

    Detectron2's ``AMPTrainer`` requires a GPU for mixed precision, and detects a loss that is not
    finite only on rank 0, which leaves the other ranks waiting. Here the host waits for the device
    once per iteration, for the losses and the norm of the gradients (logged as ``grad_norm``).
    Hooks' ``after_backward`` sees the gradients averaged over the ranks, without the loss scale and
    before clipping, also in an iteration that is skipped.

    If a loss is not finite on any rank, all ranks skip the iteration: weights, buffers, optimizer
    and scaler keep their state. The same applies to gradients, except for those that a smaller
    float16 loss scale can repair.

    Args:
        model: returns a dict of () losses for a batch, or one () loss.
        data_loader: yields lists of samples. A sample with the key ``replaced`` replaces an
            unreadable one, which the value describes; ``data_loader.dataset.max_bad_samples``
            limits their number in the whole training.
        optimizer: optimizer of the model's parameters.
        device: device of the model.
        precision: dtype of autocast; None trains in full precision. float16 scales the loss.
        max_grad_norm: limit of the L2 norm of all gradients together; None: no clipping.
        max_skipped_steps: limit of skipped iterations in the whole training.

    Attributes:
        precision: see above.
        skipped: whether the last iteration was skipped.

    Raises:
        ValueError: ``max_grad_norm`` is not positive, or ``max_skipped_steps`` is negative.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        device: torch.device,
        precision: torch.dtype | None = None,
        max_grad_norm: float | None = None,
        max_skipped_steps: int = 0,
    ) -> None:
        if max_grad_norm is not None and max_grad_norm <= 0:
            raise ValueError(f"max_grad_norm must be positive, got {max_grad_norm}")
        if max_skipped_steps < 0:
            raise ValueError(f"max_skipped_steps must not be negative, got {max_skipped_steps}")
        scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler)
        self.precision = precision
        self.skipped = False
        self._device = device
        self._max_grad_norm = max_grad_norm
        self._max_skipped_steps = max_skipped_steps
        self._skipped_steps = 0
        self._bad_samples = 0
        self._saved_buffers: list[Tensor] = []

    def start_loading(self) -> None:
        """Creates the loader's iterator, before the first iteration."""
        # Creating it may draw a random number. Inside the first iteration after a start or a
        # resume, that draw would change the iteration's other random numbers.
        _ = self._data_loader_iter

    def stop_loading(self) -> None:
        """Releases the loader's iterator, which ends its workers."""
        # The garbage collector would delete the workers' queues first and then wait 5 s for each.
        self._data_loader_iter_obj = None

    def run_step(self) -> None:
        """Runs one iteration. All ranks raise the same error.

        Raises:
            BadNumbersError: more iterations than ``max_skipped_steps`` had to be skipped; the
                message names the samples and the values that are not finite.
            ValueError: more samples than ``max_bad_samples`` could not be read.
        """
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        replaced = _pop_replaced(batch)
        # The forward pass updates BatchNorm's statistics before the losses are known to be finite.
        self._save_buffers()
        with torch.autocast(self._device.type, self.precision, enabled=self.precision is not None):
            losses = named_losses(self.model(batch))
        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.grad_scaler.unscale_(self.optimizer)  # clipping and hooks need the true gradients
        self.after_backward()
        norm = self._clip_gradients()
        report = exchange(losses, norm, data_time=data_time, replaced=replaced)
        self._count_bad_samples(report.replaced)
        scaled = not report.has_finite_gradients() and self._can_reduce_scale()
        problem = describe_problem(report, batch, scaled=scaled, iteration=self.iter)
        self.skipped = problem is not None
        if problem is not None:
            self._skip(problem, batch, report)
            return
        self._log_metrics(report)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _can_reduce_scale(self) -> bool:
        """Returns whether a smaller loss scale, at least 1, can repair infinite gradients."""
        return self.grad_scaler.is_enabled() and self.grad_scaler.get_scale() > 1

    def _clip_gradients(self) -> Tensor:
        """Clips the gradients and returns their () norm before clipping."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        max_norm = math.inf if self._max_grad_norm is None else self._max_grad_norm
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)

    def _log_metrics(self, report: StepReport) -> None:
        """Logs the losses averaged over ranks, the gradients' norm and the longest data time."""
        means, storage = report.means(), get_event_storage()
        if report.has_finite_gradients():  # otherwise the scaler skips the step
            storage.put_scalar("grad_norm", max(report.grad_norms))
        totals = {"data_time": max(report.waits), "total_loss": sum(means.values())}
        storage.put_scalars(**{**means, **totals})  # a single loss is named total_loss, too

    def _save_buffers(self) -> None:
        """Copies the model's buffers into tensors that all iterations share."""
        buffers = list(self.model.buffers())
        if not self._saved_buffers:
            self._saved_buffers = [torch.empty_like(buffer) for buffer in buffers]
        _copy_all(self._saved_buffers, buffers)

    def _skip(self, problem: str, batch: Sequence[Any], report: StepReport) -> None:
        """Restores the state from before the iteration; raises if no further skip is allowed."""
        _copy_all(list(self.model.buffers()), self._saved_buffers)
        self.optimizer.zero_grad()
        # Setting the current scale again clears what unscale_ recorded for this iteration.
        self.grad_scaler.update(self.grad_scaler.get_scale())
        if self._skipped_steps == self._max_skipped_steps:
            losses = {name: values[comm.get_rank()] for name, values in report.losses.items()}
            raise BadNumbersError(problem, batch, losses)
        self._skipped_steps += 1
        get_event_storage().put_scalar("skipped_steps", self._skipped_steps, smoothing_hint=False)
        logger.warning(
            "%s. The iteration is skipped, %d of %d that train.max_skipped_steps allows",
            *(problem, self._skipped_steps, self._max_skipped_steps),
        )

    def _count_bad_samples(self, number: int) -> None:
        if not number:
            return
        self._bad_samples += number
        limit = getattr(getattr(self.data_loader, "dataset", None), "max_bad_samples", 0)
        get_event_storage().put_scalar("bad_samples", self._bad_samples, smoothing_hint=False)
        if self._bad_samples > limit:
            raise ValueError(
                f"{self._bad_samples} samples of this training could not be read and were replaced "
                f"by others, more than the {limit} of train.max_bad_samples. Warnings in the logs "
                "of the ranks name the samples: repair their files or raise the limit"
            )

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of optimizer and scaler, and the counts that the limits apply to."""
        counts = {"skipped_steps": self._skipped_steps, "bad_samples": self._bad_samples}
        return {**super().state_dict(), **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores a state of :meth:`state_dict`, also one of a training in another precision."""
        # Without float16 the scaler's state is empty, which GradScaler refuses to load.
        scaler = state_dict.get("grad_scaler") or self.grad_scaler.state_dict()
        super().load_state_dict({**state_dict, "grad_scaler": scaler})
        self._skipped_steps = state_dict.get("skipped_steps", 0)
        self._bad_samples = state_dict.get("bad_samples", 0)


def named_losses(losses: dict[str, Tensor] | Tensor) -> dict[str, Tensor]:
    """Returns a model's losses by name; a single loss is ``total_loss``, as in Detectron2."""
    return {"total_loss": losses} if isinstance(losses, Tensor) else losses


def _copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copies the values of all tensors in one operation."""
    if targets:  # the operation refuses empty lists
        torch._foreach_copy_(targets, sources)


def _pop_replaced(batch: Sequence[Any]) -> int:
    """Removes the key ``replaced`` from the samples, logs its values and returns their number."""
    errors = [sample.pop("replaced") for sample in batch if "replaced" in sample]
    for error in errors:
        logger.warning("Another sample replaces one that could not be read: %s", error)
    return len(errors)


def autocast_dtype(cfg: DictConfig) -> torch.dtype | None:
    """Returns the dtype of autocast that ``train.amp`` selects; None if it is disabled.

    Raises:
        ValueError: ``train.amp.dtype`` is neither ``bfloat16`` nor ``float16``.
    """
    if not cfg.enabled:
        return None
    if cfg.dtype not in ("bfloat16", "float16"):
        raise ValueError(f"train.amp.dtype is {cfg.dtype!r}; it must be 'bfloat16' or 'float16'")
    return getattr(torch, cfg.dtype)
