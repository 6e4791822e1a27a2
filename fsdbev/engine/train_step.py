"""One training iteration."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import DictConfig
from torch import Tensor, nn

from fsdbev.d2.engine import AMPTrainer
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.events import get_event_storage


class TrainStep(AMPTrainer):
    """Forward, backward and optimizer step, on any device, in full or mixed precision.

    Detectron2's own asks for a GPU in mixed precision, and finds a loss that is not finite on rank
    0 alone, which leaves the other ranks waiting. The host waits for the device once an iteration:
    for the losses and the norm of the gradients, which are stored as ``grad_norm``.

    Args:
        model: takes a batch of the loader, returns a dict of scalar losses.
        device: of the model.
        precision: of autocast; None trains in full precision. float16 scales the loss.
        max_grad_norm: gradients are scaled down to this norm over all parameters together; None
            leaves them as they are.
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
    ) -> None:
        if max_grad_norm is not None and max_grad_norm <= 0:
            raise ValueError(f"max_grad_norm must be positive, got {max_grad_norm}")
        scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler)
        self.precision = precision
        self._device = device
        self._max_grad_norm = max_grad_norm

    def start_loading(self) -> None:
        """Makes the loader's iterator. That may draw a random number, which would otherwise happen
        in whatever iteration is the first after a start or a resume."""
        _ = self._data_loader_iter

    def run_step(self) -> None:
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast(self._device.type, self.precision, enabled=self.precision is not None):
            losses = self.model(batch)
        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.grad_scaler.unscale_(self.optimizer)
        self._report(losses, self._clip_gradients(), data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _clip_gradients(self) -> Tensor:
        """The norm that the gradients had."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        max_norm = math.inf if self._max_grad_norm is None else self._max_grad_norm
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)

    def _report(self, losses: dict[str, Tensor], grad_norm: Tensor, data_time: float) -> None:
        """Stores the losses, averaged over ranks, the gradients' norm, the same on all ranks, and
        the longest wait for data.

        Raises:
            FloatingPointError: a loss or, but for float16, the norm is not finite on some rank;
                raised on every rank, before any weight has changed.
        """
        values = torch.stack([*(loss.detach().float() for loss in losses.values()), grad_norm])
        values = torch.cat([values, torch.tensor([data_time]).to(values, non_blocking=True)])
        ranks = [torch.empty_like(values) for _ in range(comm.get_world_size())]
        if len(ranks) > 1:
            dist.all_gather(ranks, values)
        else:
            ranks = [values]
        *per_loss, norms, waits = torch.stack(ranks, dim=1).tolist()
        for name, per_rank in zip(losses, per_loss, strict=True):
            for rank, value in enumerate(per_rank):
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"{name} is {value} at iteration {self.iter} on rank {rank}. All losses "
                        f"there: { {n: v[rank] for n, v in zip(losses, per_loss, strict=True)} }"
                    )
        if all(map(math.isfinite, norms)):
            get_event_storage().put_scalar("grad_norm", max(norms))
        elif not self.grad_scaler.is_enabled():  # which skips the step and scales less
            raise FloatingPointError(
                f"the gradient norm is {max(norms)} at iteration {self.iter}; the losses are "
                "finite, so look for an operation with an infinite derivative"
            )
        means = {n: sum(v) / len(v) for n, v in zip(losses, per_loss, strict=True)}
        storage = get_event_storage()
        storage.put_scalars(data_time=max(waits), total_loss=sum(means.values()), **means)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A training in another precision left no state of a scaler: then this one starts anew.
        scaler = state_dict.get("grad_scaler") or self.grad_scaler.state_dict()
        super().load_state_dict({**state_dict, "grad_scaler": scaler})


def autocast_dtype(cfg: DictConfig) -> torch.dtype | None:
    """``train.amp`` as the type of autocast; None where it is off."""
    if not cfg.enabled:
        return None
    if cfg.dtype not in ("bfloat16", "float16"):
        raise ValueError(f"train.amp.dtype is {cfg.dtype!r}; it must be 'bfloat16' or 'float16'")
    return getattr(torch, cfg.dtype)
