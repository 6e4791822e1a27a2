"""Hooks around one iteration: seeding, weight averaging and the length of histories."""

from __future__ import annotations

import random
import weakref

import numpy as np
import torch

from fsdbev.d2.engine import HookBase, TrainerBase
from fsdbev.d2.utils import comm
from fsdbev.engine.ema import ModelEMA

#: Number of values kept per scalar. The longest window of a writer is that of the estimated
#: remaining time.
KEPT = 1000


class IterationSeed(HookBase):
    """Hook that seeds all random generators before each iteration (see :func:`seed_iteration`).

    A resumed training therefore draws the same numbers as an uninterrupted one.

    Attributes:
        seed: seed of the run, the same on all ranks.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_step(self) -> None:
        seed_iteration(self.seed, comm.get_rank(), self.trainer.iter)


def seed_iteration(seed: int, rank: int, iteration: int) -> None:
    """Seeds the random generators of Python, NumPy and PyTorch for one iteration of one rank.

    Args:
        seed: seed of the run, 0 or more.
        rank: rank of this process.
        iteration: number of the iteration, from 0.
    """
    # SeedSequence mixes the three numbers; sums such as seed + rank would collide.
    derived = int(np.random.SeedSequence((seed, rank, iteration)).generate_state(1)[0])
    random.seed(derived)
    np.random.seed(derived)
    torch.manual_seed(derived)


class AfterBackward(HookBase):
    """Hook of a training step that calls ``after_backward`` of the hooks of the trainer around it.

    Detectron2's ``DefaultTrainer`` calls only the step's own hooks, of which it registers none.

    Args:
        owner: trainer that runs the step.
    """

    def __init__(self, owner: TrainerBase) -> None:
        # Weak, because the owner has the step, and the step this hook.
        self._owner = weakref.proxy(owner)

    def after_backward(self) -> None:
        self._owner.after_backward()


class EMAUpdate(HookBase):
    """Hook that updates the averaged weights after each iteration that was not skipped."""

    def __init__(self, ema: ModelEMA) -> None:
        self._ema = ema

    def after_step(self) -> None:
        if not self.trainer.skipped_step:
            self._ema.update()


class HistoryTrimmer(HookBase):
    """Hook that limits the event storage to the last ``KEPT`` values of each scalar. It must follow
    the writers.

    Detectron2 keeps a million values of each scalar. With forty losses that is about 5 KB per
    iteration and half a gigabyte at the end of the published schedules.
    """

    def after_step(self) -> None:
        for history in self.trainer.storage.histories().values():
            del history.values()[:-KEPT]
