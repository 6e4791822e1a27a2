"""Hooks of the trainer beside Detectron2's own."""

from __future__ import annotations

import logging
import os
import random
import re
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from fsdbev.checkpoint import TrainingCheckpointer
from fsdbev.d2.engine import HookBase, hooks
from fsdbev.d2.utils import comm

from .ema import ModelEMA

logger = logging.getLogger(__name__)


class IterationSeed(HookBase):
    """Seeds all random generators anew before each iteration, by seed, rank and iteration.

    A resumed training then draws the same numbers as one that was never interrupted.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_step(self) -> None:
        sources = (self._seed, comm.get_rank(), self.trainer.iter)
        seed = int(np.random.SeedSequence(sources).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


class EMAUpdate(HookBase):
    """Updates the average of a model after each iteration."""

    def __init__(self, ema: ModelEMA, model: torch.nn.Module) -> None:
        self._ema = ema
        self._model = model

    def after_step(self) -> None:
        self._ema.update(self._model)


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's; among the ``max_to_keep`` it also counts what was saved before a resume."""

    def before_train(self) -> None:
        super().before_train()
        if self.trainer.start_iter > 0:
            name = re.compile(rf"{re.escape(self.file_prefix)}_\d+\.pth")
            files = self.checkpointer.get_all_checkpoint_files()
            self.recent_checkpoints = sorted(
                file for file in files if name.fullmatch(os.path.basename(file))
            )


class Preemption(HookBase):
    """On SIGTERM or SIGUSR1 to any process of the job: finishes the iteration, saves a checkpoint
    and ends the job without error, so that ``--resume`` goes on from there."""

    def __init__(self, checkpointer: TrainingCheckpointer) -> None:
        self._checkpointer = checkpointer
        self._received = False
        self._previous: dict[int, Any] = {}

    def before_train(self) -> None:
        for number in {signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)}:
            self._previous[number] = signal.signal(number, self._receive)
        loader = self.trainer.data_loader
        if getattr(loader, "num_workers", 0) > 0 and hasattr(os, "setpgid"):
            loader.worker_init_fn = partial(_leave_group, loader.worker_init_fn)

    def after_train(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = True

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if not self._received_by_any() or iteration + 1 == self.trainer.max_iter:
            return
        self._checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
        logger.warning("Asked to stop after iteration %d; --resume goes on from here", iteration)
        comm.synchronize()  # nobody leaves before the checkpoint is written
        raise SystemExit(0)

    def _received_by_any(self) -> bool:
        if comm.get_world_size() == 1:
            return self._received
        device = next(self.trainer.model.parameters()).device
        received = torch.tensor(int(self._received), device=device)
        dist.all_reduce(received, op=dist.ReduceOp.MAX)
        return bool(received)


def _leave_group(init: Callable[[int], None] | None, worker_id: int) -> None:
    """Start of a loader's worker. torchrun and shells send signals to whole process groups, and a
    training that loses its workers cannot finish its iteration. Workers end with the training."""
    os.setpgid(0, 0)
    if init is not None:
        init(worker_id)
