"""Hook that stops a training at a signal, as clusters send it before they end a job."""

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
    """Hook that stops all processes after a SIGTERM or SIGUSR1 to any of them.

    The job finishes the iteration, saves a checkpoint and exits with status ``PREEMPTED``;
    ``--resume`` continues from there. During an evaluation, before which a checkpoint is saved, the
    process that receives the signal exits at once.

    Args:
        checkpointer: saves the checkpoint.
    """

    def __init__(self, checkpointer: TrainingCheckpointer) -> None:
        self._checkpointer = checkpointer
        self._received = False
        self._evaluating = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles the signals inside the block, and restores the previous handlers after it.

        Signals are ignored after the block if the training was stopped, or if a process of several
        failed: they must not interrupt the diagnosis and the exit.
        """
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
        """Moves the loader's workers, which start later, out of this process's group."""
        loader = self.trainer.data_loader
        if getattr(loader, "num_workers", 0) > 0 and hasattr(os, "setpgid"):
            loader.worker_init_fn = partial(_init_in_own_group, loader.worker_init_fn)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # Only a flag: a second signal, or one while a checkpoint is written, changes nothing.
        self._received = True
        if self._evaluating:
            raise SystemExit(PREEMPTED)

    def after_step(self) -> None:
        """Saves and stops if any process received a signal.

        Raises:
            SystemExit: status ``PREEMPTED``, on every rank.
        """
        iteration = self.trainer.iter
        # After the last iteration the final model is saved in any case, and the evaluation, which
        # checks for signals, is next.
        last = iteration + 1 == self.trainer.max_iter
        if not last and self._received_by_any():
            self._checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
            self._stop(iteration)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Context of an evaluation, which a signal ends at once. The weights must be saved before.

        Raises:
            SystemExit: status ``PREEMPTED``; on every rank if any received a signal before, and
                during the evaluation on the rank that receives one.
        """
        if self._received_by_any():
            self._stop(min(self.trainer.iter, self.trainer.max_iter - 1))
        self._evaluating = True
        try:
            yield
        finally:
            self._evaluating = False

    def _stop(self, iteration: int) -> None:
        logger.warning("Asked to stop after iteration %d; --resume continues from here", iteration)
        wait_for_rank0()  # the first exit makes the launcher kill rank 0, which writes
        raise SystemExit(PREEMPTED)

    def _received_by_any(self) -> bool:
        """Returns whether any process received a signal. All ranks must call it."""
        if comm.get_world_size() == 1:
            return self._received
        device = next(self.trainer.model.parameters()).device
        received = torch.tensor(int(self._received), device=device)
        dist.all_reduce(received, op=dist.ReduceOp.MAX)
        return bool(received)


def _init_in_own_group(init: Callable[[int], None] | None, worker_id: int) -> None:
    """Initializes a loader's worker in a process group of its own."""
    # torchrun and shells send signals to whole process groups, and a training that loses its
    # workers cannot finish its iteration. The workers still end with the training.
    os.setpgid(0, 0)
    if init is not None:
        init(worker_id)
