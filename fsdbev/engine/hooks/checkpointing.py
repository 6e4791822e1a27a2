"""Hook that saves checkpoints and removes old ones."""

from __future__ import annotations

import logging
import os
import time
from itertools import islice

from fsdbev.checkpoint import TrainingCheckpointer, check_archive, write_weights
from fsdbev.checkpoint.checkpointer import FINAL
from fsdbev.d2.engine import hooks
from fsdbev.d2.utils import comm
from fsdbev.engine.distributed import wait_for_rank0

logger = logging.getLogger(__name__)

#: Number of complete checkpoints that are kept regardless of their age. If the newest is damaged
#: later, a training can resume from the previous one.
_MIN_COMPLETE = 2


class CheckpointSaver(hooks.PeriodicCheckpointer):
    """Hook that saves a checkpoint every ``period`` iterations and at the end, and then removes old
    checkpoints. All ranks register it: rank 0 saves while the others wait.

    If a checkpoint cannot be written, e.g. because the disk is full, the error is logged, the
    training continues and the next attempt follows after ``period`` iterations. At the end of the
    training the error is raised. The hook then also writes the evaluated weights, i.e. the averaged
    ones with EMA, as ``model_final.safetensors``.

    Args:
        checkpointer: saves checkpoints in its ``save_dir``.
        period: number of iterations between checkpoints.
        max_to_keep: number of newest checkpoints to keep, including those from before a resume;
            None keeps all.
        max_age_hours: age at which checkpoints are removed, except for the two newest complete
            ones; None: no limit.

    Raises:
        ValueError: ``max_to_keep`` or ``max_age_hours`` is not a positive number.
    """

    def __init__(
        self,
        checkpointer: TrainingCheckpointer,
        period: int,
        max_to_keep: int | None = None,
        max_age_hours: float | None = None,
    ) -> None:
        limits = {
            "checkpointer.max_to_keep": max_to_keep,
            "checkpoint_max_age_hours": max_age_hours,
        }
        for name, value in limits.items():
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise ValueError(f"train.{name} must be a number above 0, or null, got {value!r}")
        super().__init__(checkpointer, period, max_to_keep=max_to_keep)
        self._max_age_hours = max_age_hours
        self._foreign: set[str] = set()  # paths of an earlier training in the same folder
        self._complete: set[str] = set()  # paths that this process wrote or checked

    def before_train(self) -> None:
        """Records the checkpoints of an earlier training, which this one does not remove."""
        super().before_train()
        if self.trainer.start_iter == 0:
            self._foreign = {path for _, path in self.checkpointer.numbered()}

    def after_step(self) -> None:
        """Saves on rank 0 if a checkpoint is due, while the other ranks wait."""
        iteration = self.trainer.iter
        if not self._is_due(iteration) and iteration + 1 < self.max_iter:
            return
        if comm.is_main_process():
            super().after_step()
        wait_for_rank0()

    def step(self, iteration: int, **extra: object) -> None:
        """Saves what is due after an iteration, on rank 0.

        Args:
            iteration: number of the finished iteration, from 0.
            extra: further entries of the checkpoint.

        Raises:
            OSError: the final checkpoint cannot be written.
        """
        # Old checkpoints are removed only after the new one is on the disk.
        if self._is_due(iteration) and self._try_save(iteration, extra):
            self._remove_old(iteration)
        if iteration + 1 >= self.max_iter:
            self.checkpointer.save(FINAL, iteration=iteration, **extra)
            path = os.path.join(self.checkpointer.save_dir, f"{FINAL}.safetensors")
            weights, settings = self.trainer.eval_model.state_dict(), self.checkpointer.settings
            write_weights(weights, path, entry="model", settings=settings.to_dict())

    def save_unless_saved(self, iteration: int) -> None:
        """Saves a checkpoint that is not due, unless this process saved one of this iteration."""
        path = os.path.join(self.checkpointer.save_dir, f"{self._name(iteration)}.pth")
        if comm.is_main_process() and path not in self._complete:
            self._try_save(iteration, {})
        wait_for_rank0()

    def _is_due(self, iteration: int) -> bool:
        return (iteration + 1) % self.period == 0

    def _name(self, iteration: int) -> str:
        return f"{self.file_prefix}_{iteration:07d}"

    def _try_save(self, iteration: int, extra: dict[str, object]) -> bool:
        """Saves a checkpoint, or logs why that failed. Returns whether it was written."""
        try:
            self.checkpointer.save(self._name(iteration), iteration=iteration, **extra)
        except OSError as error:
            # Hours of training must not be lost because a disk is full for a while.
            logger.error(
                "NO CHECKPOINT of iteration %d: %s. The training continues; the last checkpoint is "
                "still %s. The next attempt follows in %d iterations",
                iteration,
                error,
                self.checkpointer.get_checkpoint_file() or "none",
                self.period,
            )
            return False
        path = self.checkpointer.get_checkpoint_file()
        self._complete.add(path)
        self._foreign.discard(path)
        return True

    def _remove_old(self, iteration: int) -> None:
        """Removes the checkpoints that exceed ``max_to_keep`` or ``max_age_hours``."""
        # fvcore's own list starts empty after a resume, so the folder is read instead.
        found = sorted((n, p) for n, p in self.checkpointer.numbered() if n <= iteration)
        paths = [path for _, path in reversed(found) if path not in self._foreign]
        expired = paths[self.max_to_keep :] if self.max_to_keep else []
        expired += [path for path in paths if path not in expired and self._is_old(path)]
        if not expired:
            return
        count = min(_MIN_COMPLETE, self.max_to_keep or _MIN_COMPLETE)
        complete = islice(filter(self._is_complete, paths), count)
        protected = {self.checkpointer.get_checkpoint_file(), *complete}
        for path in expired:
            if path in protected:
                continue
            try:
                os.remove(path)
            except OSError as error:
                logger.warning("An old checkpoint could not be removed: %s", error)

    def _is_old(self, path: str) -> bool:
        if self._max_age_hours is None:
            return False
        return time.time() - os.path.getmtime(path) > self._max_age_hours * 3600

    def _is_complete(self, path: str) -> bool:
        if path not in self._complete:
            try:
                check_archive(path)
            except (OSError, ValueError) as error:
                logger.warning("Checkpoint %s is incomplete or damaged: %s", path, error)
                return False
            self._complete.add(path)
        return True
