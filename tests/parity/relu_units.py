"""ReLU units of the training runs whose input is zero but for rounding, and which way they fell.

In float32 such a unit is on or off by the order of additions in a convolution, which differs with
CPU, thread count and library, and a single one moves gradients by 1e-3 to 1e-2 of their norm.
``relu_units.npz`` holds for each run those units and the states in which the gradients are the
reference's. With them pinned, gradients are comparable on every machine.

``record_relu_units.py`` finds them anew; needed when the order in which the model calls its ReLUs
has changed.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FILE = pathlib.Path(__file__).parent / "relu_units.npz"

#: Inputs under this share of the root mean square of their map count as zero.
ROUNDING = 3e-5


class ReLUUnits:
    """Stands in for ``F.relu`` and tells its calls apart by their number.

    Attributes:
        call, index, on: (K,) pinned units: number of the call, flat index in its input, state.
        at_zero: (call, flat index, input) of the units at zero, found if asked to look.
    """

    def __init__(self, call: Tensor, index: Tensor, on: Tensor, look: bool = False) -> None:
        self.call, self.index, self.on, self.look = call, index, on, look
        self.at_zero: list[tuple[int, int, float]] = []
        self.calls = 0

    def __call__(self, x: Tensor, inplace: bool = False) -> Tensor:
        state = x > 0
        if self.look:
            self._find_zeros(x.detach().flatten())
        pinned = self.call == self.calls
        state.view(-1)[self.index[pinned]] = self.on[pinned]
        self.calls += 1
        return torch.where(state, x, 0.0)

    def _find_zeros(self, x: Tensor) -> None:
        bound = ROUNDING * x.square().mean().sqrt()
        for index in (x.abs() < bound).nonzero().flatten().tolist():
            self.at_zero.append((self.calls, index, x[index].item()))

    @contextmanager
    def in_place(self) -> Iterator[ReLUUnits]:
        with mock.patch.object(F, "relu", self):
            yield self


def pinned_units(run: str) -> ReLUUnits:
    """The units of a run of ``small_model.TRAINING_RUNS``, as the file has them."""
    with np.load(FILE) as arrays:
        call, index, on = (
            torch.from_numpy(arrays[f"{run}/{key}"]) for key in ("call", "index", "on")
        )
    return ReLUUnits(call, index.long(), on)
