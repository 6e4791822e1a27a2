"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ModelEMA:
    """Exponential moving average of a model's weights, stored in a copy of the model.

    Update n, counted from ``start_updates``, has the weight ``d = decay * (1 - exp(-n / warmup))``.
    Each float weight and buffer becomes ``d * average + (1 - d) * current``; integer buffers are
    copied (docs/model.md, "Training data").

    The constructor lists the tensors of both models once. Later changes of the models must be in
    place, as those of optimizers and ``load_state_dict`` are. Create a new average after a change
    that replaces tensors (another device, a parametrization, ``load_state_dict(assign=True)``).

    Args:
        model: the trained model, on its final device.
        decay: limit of d for large n, in [0, 1).
        warmup: number of updates that sets how fast d approaches ``decay``.
        start_updates: value of n before the first update.

    Raises:
        ValueError: ``decay``, ``warmup`` or ``start_updates`` is out of range.

    Attributes:
        model: the averaged copy, in eval mode, without gradients.
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
        # Counters such as BatchNorm's num_batches_tracked are integers and have no average.
        floats = [name for name, value in averages.items() if value.is_floating_point()]
        self._averages = [averages[name] for name in floats]
        self._currents = [currents[name] for name in floats]
        self._integers = [(averages[n], currents[n]) for n in averages.keys() - set(floats)]

    def decay(self) -> float:
        """Returns d, the weight of the average, for the current ``updates``."""
        return self._decay * (1 - math.exp(-self.updates / self._warmup))

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average one step towards the trained model."""
        self.updates += 1
        # One multi-tensor operation for all floats instead of one small kernel per tensor.
        average_floats = get_ema_multi_avg_fn(self.decay())
        average_floats(self._averages, self._currents, self.updates)
        for average, current in self._integers:
            average.copy_(current)

    def reset(self) -> None:
        """Sets the average to the trained model's weights; ``updates`` does not change."""
        self.model.load_state_dict(self._source.state_dict())

    def state_dict(self) -> dict:
        """Returns the averaged weights (``model``) and the number of ``updates``."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restores the average from the result of :meth:`state_dict`."""
        self.model.load_state_dict(state_dict["model"])
        self.updates = state_dict["updates"]
