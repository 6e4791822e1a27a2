"""Hooks of the trainer beside Detectron2's own."""

from __future__ import annotations

import random

import numpy as np
import torch

from fsdbev.d2.engine import HookBase
from fsdbev.d2.utils import comm

from .ema import ModelEMA


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
