"""Hooks of the trainer beside Detectron2's own."""

from __future__ import annotations

import random

import numpy as np
import torch

from fsdbev.d2.engine import HookBase
from fsdbev.d2.utils import comm
from fsdbev.engine.ema import ModelEMA

#: Values of a scalar that stay: as many as a writer looks back at, for the time that is left.
KEPT = 1000


class IterationSeed(HookBase):
    """Seeds all random generators anew before each iteration, see :func:`seed_iteration`.

    A resumed training then draws the same numbers as one that was never interrupted.

    Attributes:
        seed: the same on all ranks.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_step(self) -> None:
        seed_iteration(self.seed, comm.get_rank(), self.trainer.iter)


def seed_iteration(seed: int, rank: int, iteration: int) -> None:
    """Seeds the random generators of Python, NumPy and PyTorch for one iteration of one rank."""
    derived = int(np.random.SeedSequence((seed, rank, iteration)).generate_state(1)[0])
    random.seed(derived)
    np.random.seed(derived)
    torch.manual_seed(derived)


class EMAUpdate(HookBase):
    """Updates the average of the weights after each iteration that was not skipped."""

    def __init__(self, ema: ModelEMA) -> None:
        self._ema = ema

    def after_step(self) -> None:
        if not self.trainer.skipped_step:
            self._ema.update()


class ShortHistories(HookBase):
    """Drops values of the event storage that no writer looks back at; it goes behind the writers.

    Detectron2 keeps a million of each scalar: with forty losses about 5 KB an iteration, half a
    gigabyte at the end of the published schedules.
    """

    def after_step(self) -> None:
        for history in self.trainer.storage.histories().values():
            del history.values()[:-KEPT]
