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
    """More iterations with a number that is not finite than a training may skip.

    Attributes:
        batch: this rank's, of the iteration.
        losses: this rank's, by name.
    """

    def __init__(self, message: str, batch: Sequence[Any], losses: dict[str, float]) -> None:
        super().__init__(message)
        self.batch = batch
        self.losses = losses


class TrainStep(AMPTrainer):
    """Forward, backward and optimizer step, on any device, in full or mixed precision.

    Detectron2's own asks for a GPU in mixed precision, and finds a loss that is not finite on rank
    0 alone, which leaves the other ranks waiting. The host waits for the device once an iteration:
    for the losses and the norm of the gradients, which are stored as ``grad_norm``.

    An iteration with a loss or, but for float16, a gradient that is not finite on some rank is
    skipped on all of them: weights, buffers, optimizer and scaler stay as they were.

    Args:
        model: takes a batch of the loader, returns a dict of scalar losses.
        data_loader: one whose dataset has ``max_bad_samples`` may give samples with the key
            ``replaced``, which says what they stand in for.
        device: of the model.
        precision: of autocast; None trains in full precision. float16 scales the loss.
        max_grad_norm: gradients are scaled down to this norm over all parameters together; None
            leaves them as they are.
        max_skipped_steps: so many iterations may be skipped in the whole training.

    Attributes:
        skipped: whether the last iteration was skipped.
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

    def start_loading(self) -> None:
        """Makes the loader's iterator. That may draw a random number, which would otherwise happen
        in whatever iteration is the first after a start or a resume."""
        _ = self._data_loader_iter

    def stop_loading(self) -> None:
        """Lets go of the iterator, whose workers end with it. Left to the garbage collector, it
        would wait 5 s for each: that takes the worker's queue away first."""
        self._data_loader_iter_obj = None

    def run_step(self) -> None:
        """One iteration.

        Raises:
            BadNumbersError: more iterations than ``max_skipped_steps`` had to be skipped; on all
                ranks, with the samples and what was not finite.
            ValueError: more samples than ``max_bad_samples`` could not be read; on all ranks.
        """
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        replaced = _note_replaced(batch)
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        with torch.autocast(self._device.type, self.precision, enabled=self.precision is not None):
            losses = self.model(batch)
        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.grad_scaler.unscale_(self.optimizer)
        norm = self._clip_gradients()
        report = exchange(losses, norm, data_time=data_time, replaced=replaced)
        self._count_bad_samples(report.replaced)
        scaled = not report.has_finite_gradients() and self._is_scaled()
        problem = describe_problem(report, batch, scaled=scaled, iteration=self.iter)
        self.skipped = problem is not None
        if problem is not None:
            self._skip(problem, buffers, batch, report)
            return
        self._store(report)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _is_scaled(self) -> bool:
        """Whether infinite gradients are the scaler's to mend: by a smaller scale, down to 1."""
        return self.grad_scaler.is_enabled() and self.grad_scaler.get_scale() > 1

    def _clip_gradients(self) -> Tensor:
        """The norm that the gradients had."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        max_norm = math.inf if self._max_grad_norm is None else self._max_grad_norm
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)

    def _store(self, report: StepReport) -> None:
        """Losses averaged over ranks, the gradients' norm, and the longest wait for data."""
        means, storage = report.means(), get_event_storage()
        if report.has_finite_gradients():  # else the scaler skips the step and scales less
            storage.put_scalar("grad_norm", max(report.grad_norms))
        storage.put_scalars(data_time=max(report.waits), total_loss=sum(means.values()), **means)

    def _skip(
        self, problem: str, buffers: list[Tensor], batch: Sequence[Any], report: StepReport
    ) -> None:
        with torch.no_grad():  # BatchNorm has seen the numbers
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        self.optimizer.zero_grad()
        self.grad_scaler.update(self.grad_scaler.get_scale())  # the same; forgets this iteration
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
        most = getattr(getattr(self.data_loader, "dataset", None), "max_bad_samples", 0)
        get_event_storage().put_scalar("bad_samples", self._bad_samples, smoothing_hint=False)
        if self._bad_samples > most:
            raise ValueError(
                f"{self._bad_samples} samples of this training could not be read and were replaced "
                f"by others, more than the {most} of train.max_bad_samples; the warnings above, on "
                "each rank, name them"
            )

    def state_dict(self) -> dict[str, Any]:
        counts = {"skipped_steps": self._skipped_steps, "bad_samples": self._bad_samples}
        return {**super().state_dict(), **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A training in another precision left no state of a scaler: then this one starts anew.
        scaler = state_dict.get("grad_scaler") or self.grad_scaler.state_dict()
        super().load_state_dict({**state_dict, "grad_scaler": scaler})
        self._skipped_steps = state_dict.get("skipped_steps", 0)
        self._bad_samples = state_dict.get("bad_samples", 0)


def _note_replaced(batch: Sequence[Any]) -> int:
    """How many samples stand in for one that could not be read; takes the note off them."""
    notes = [sample.pop("replaced") for sample in batch if "replaced" in sample]
    for note in notes:
        logger.warning("Another sample stands in for one that could not be read: %s", note)
    return len(notes)


def autocast_dtype(cfg: DictConfig) -> torch.dtype | None:
    """``train.amp`` as the type of autocast; None where it is off."""
    if not cfg.enabled:
        return None
    if cfg.dtype not in ("bfloat16", "float16"):
        raise ValueError(f"train.amp.dtype is {cfg.dtype!r}; it must be 'bfloat16' or 'float16'")
    return getattr(torch, cfg.dtype)
