"""One training iteration."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fsdbev.d2.engine import AMPTrainer
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.events import get_event_storage


class TrainStep(AMPTrainer):
    """Forward, backward and optimizer step, on any device, in full or mixed precision.

    Detectron2's own asks for a GPU in mixed precision, and finds a loss that is not finite on rank
    0 alone, which leaves the other ranks waiting. What happens to gradients before the optimizer
    step is the matter of hooks on the optimizer: they see them unscaled.

    Args:
        model: takes a batch of the loader, returns a dict of scalar losses.
        device: of the model.
        precision: of autocast; None trains in full precision. float16 scales the loss.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        device: torch.device,
        precision: torch.dtype | None = None,
    ) -> None:
        scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler)
        self.precision = precision
        self._device = device

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
        # Reading the losses waits for the device: best done while it is busy with the backward.
        self._report(losses, data_time)
        self.grad_scaler.unscale_(self.optimizer)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _report(self, losses: dict[str, Tensor], data_time: float) -> None:
        """Stores the losses, averaged over ranks, and the longest wait for data.

        Raises:
            FloatingPointError: a loss is not finite on some rank; raised on every rank.
        """
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        values = torch.cat([values, values.new_tensor([data_time])])
        ranks = [torch.empty_like(values) for _ in range(comm.get_world_size())]
        if len(ranks) > 1:
            dist.all_gather(ranks, values)
        else:
            ranks = [values]
        *per_loss, waits = torch.stack(ranks, dim=1).tolist()
        for name, per_rank in zip(losses, per_loss, strict=True):
            for rank, value in enumerate(per_rank):
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"{name} is {value} at iteration {self.iter} on rank {rank}. All losses "
                        f"there: { {n: v[rank] for n, v in zip(losses, per_loss, strict=True)} }"
                    )
        means = {n: sum(v) / len(v) for n, v in zip(losses, per_loss, strict=True)}
        storage = get_event_storage()
        storage.put_scalars(data_time=max(waits), total_loss=sum(means.values()), **means)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A training in another precision left no state of a scaler: then this one starts anew.
        scaler = state_dict.get("grad_scaler") or self.grad_scaler.state_dict()
        super().load_state_dict({**state_dict, "grad_scaler": scaler})
