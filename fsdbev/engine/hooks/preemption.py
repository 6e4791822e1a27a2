"""Stopping a training when the cluster asks for it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import torch
import torch.distributed as dist

from fsdbev.checkpoint import TrainingCheckpointer
from fsdbev.d2.engine import HookBase
from fsdbev.d2.utils import comm
from fsdbev.engine.distributed import wait_for_rank0
from fsdbev.utils.processes import PREEMPTED, STOP_SIGNALS

logger = logging.getLogger(__name__)


class Preemption(HookBase):
    """On SIGTERM or SIGUSR1 to any process of the job: finishes the iteration, saves a checkpoint
    and ends every process with status ``PREEMPTED``, so that ``--resume`` goes on from there.

    The signal's handler only takes a note, so a second signal, or one while a checkpoint is being
    written, does no harm. In an evaluation there is nothing to save: whoever is told ends at once.
    """

    def __init__(self, checkpointer: TrainingCheckpointer) -> None:
        self._checkpointer = checkpointer
        self._received = False
        self._evaluating = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes note of the signals. Once one has stopped the training, or one process of several
        has failed, further ones are ignored: what is left is to say why, and to end."""
        previous = {number: signal.signal(number, self._receive) for number in STOP_SIGNALS}
        is_over = False
        try:
            yield
        except BaseException as error:
            preempted = isinstance(error, SystemExit) and error.code == PREEMPTED
            is_over = preempted or comm.get_world_size() > 1
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, signal.SIG_IGN if is_over else handler)

    def before_train(self) -> None:
        loader = self.trainer.data_loader
        if getattr(loader, "num_workers", 0) > 0 and hasattr(os, "setpgid"):
            loader.worker_init_fn = partial(_leave_group, loader.worker_init_fn)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        if self._evaluating:
            raise SystemExit(PREEMPTED)

    def after_step(self) -> None:
        iteration = self.trainer.iter
        # After the last iteration the final model is saved anyway, and the evaluation is next.
        last = iteration + 1 == self.trainer.max_iter
        if not last and self._received_by_any():
            self._checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
            self._stop(iteration)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Around an evaluation, before which all ranks have their weights saved: a signal ends it.

        Raises:
            SystemExit: on every rank, where one was told to stop before; in the evaluation, on the
                rank that is told.
        """
        if self._received_by_any():
            self._stop(min(self.trainer.iter, self.trainer.max_iter - 1))
        self._evaluating = True
        try:
            yield
        finally:
            self._evaluating = False

    def _stop(self, iteration: int) -> None:
        logger.warning("Asked to stop after iteration %d; --resume goes on from here", iteration)
        wait_for_rank0()  # nobody leaves before the checkpoint is written
        raise SystemExit(PREEMPTED)

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
