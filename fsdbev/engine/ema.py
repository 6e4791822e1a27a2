"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ModelEMA:
    """The average of a model's weights over its training, held in a copy of the model.

    After update n (counted from ``start_updates``) of decay ``d = decay * (1 - exp(-n / warmup))``,
    each float weight and buffer is ``d * average + (1 - d) * current``; integer buffers are copied.

    The constructor lists the tensors of both models once. Later changes of the models must be in
    place, as those of optimizers and ``load_state_dict`` are. After a change that replaces tensors
    (another device, a parametrization, ``load_state_dict(assign=True)``) make a new average.

    Args:
        model: the model in training, on its final device.
        decay, warmup, start_updates: see above.

    Attributes:
        model: the copy, in eval mode, without gradients.
        updates: n.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        decay: float = 0.999,
        warmup: float = 2000,
        start_updates: int = 10560,
    ) -> None:
        if not 0 <= decay < 1 or warmup <= 0 or start_updates < 0:
            raise ValueError(
                "EMA needs 0 <= decay < 1, warmup > 0 and start_updates >= 0, got "
                f"{decay}, {warmup} and {start_updates}"
            )
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.updates = start_updates
        self._source = model
        self._decay = decay
        self._warmup = warmup
        averages, currents = self.model.state_dict(), model.state_dict()
        floats = [name for name, value in averages.items() if value.is_floating_point()]
        self._averages = [averages[name] for name in floats]
        self._currents = [currents[name] for name in floats]
        self._integers = [(averages[n], currents[n]) for n in averages.keys() - set(floats)]

    def decay(self) -> float:
        """Weight of the average at the update ``updates``."""
        return self._decay * (1 - math.exp(-self.updates / self._warmup))

    @torch.no_grad()
    def update(self) -> None:
        """Takes one step towards the model in training."""
        self.updates += 1
        follow = get_ema_multi_avg_fn(self.decay())
        follow(self._averages, self._currents, self.updates)
        for average, current in self._integers:
            average.copy_(current)

    def reset(self) -> None:
        """Makes the average equal to the model in training; the count of updates stays."""
        self.model.load_state_dict(self._source.state_dict())

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state_dict: dict) -> None:
        self.model.load_state_dict(state_dict["model"])
        self.updates = state_dict["updates"]
