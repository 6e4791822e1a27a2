"""When checkpoints are saved, and which of them are kept."""

from __future__ import annotations

import logging
import os
import time

from fsdbev.checkpoint import TrainingCheckpointer, check_archive, write_weights
from fsdbev.checkpoint.checkpointer import FINAL
from fsdbev.d2.engine import hooks
from fsdbev.d2.utils import comm
from fsdbev.engine.distributed import wait_for_rank0

logger = logging.getLogger(__name__)

_NEVER_OLD = 2  # whole checkpoints that stay however old they are


class CheckpointSaver(hooks.CheckpointSaver):
    """Saves every ``period`` iterations and at the end; removes old ones after that.

    A hook of all ranks: rank 0 saves, the others wait for it.

    A checkpoint that cannot be written, for the disk is full or the folder gone, is an error in the
    log: the training goes on with those it has and tries again after the next period. At the end it
    is an error of the training. There it also writes the weights that are evaluated, the averaged
    ones if there are such, as ``model_final.safetensors``.

    Args:
        checkpointer: what saves.
        period: in iterations.
        max_to_keep: how many stay, the newest; None for all. Those from before a resume count.
        max_age_hours: older ones go, but never the newest two that are whole; None for no limit.
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
        self._others: set[str] = set()  # of an earlier training in the same folder
        self._whole: set[str] = set()  # written or checked by this process

    def before_train(self) -> None:
        super().before_train()
        if self.trainer.start_iter == 0:
            self._others = {path for _, path in self.checkpointer.numbered()}

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if not self._is_due(iteration) and iteration + 1 < self.max_iter:
            return
        if comm.is_main_process():
            super().after_step()
        wait_for_rank0()

    def step(self, iteration: int, **extra: object) -> None:
        """After the iteration of this number, counted from 0."""
        if self._is_due(iteration) and self._saved(iteration, extra):
            self._remove_old(iteration)
        if iteration + 1 >= self.max_iter:
            self.checkpointer.save(FINAL, iteration=iteration, **extra)
            path = os.path.join(self.checkpointer.save_dir, f"{FINAL}.safetensors")
            write_weights(self.trainer.eval_model.state_dict(), path, entry="model")

    def save_unless_saved(self, iteration: int) -> None:
        """Saves a checkpoint out of turn, if this training has none of this iteration."""
        path = os.path.join(self.checkpointer.save_dir, f"{self._name(iteration)}.pth")
        if comm.is_main_process() and path not in self._whole:
            self._saved(iteration, {})
        wait_for_rank0()

    def _is_due(self, iteration: int) -> bool:
        return (iteration + 1) % self.period == 0

    def _name(self, iteration: int) -> str:
        return f"{self.file_prefix}_{iteration:07d}"

    def _saved(self, iteration: int, extra: dict[str, object]) -> bool:
        """Whether a checkpoint could be written."""
        try:
            self.checkpointer.save(self._name(iteration), iteration=iteration, **extra)
        except OSError as error:
            logger.error(
                "NO CHECKPOINT of iteration %d: %s. The training goes on; the last checkpoint is "
                "still %s. The next is tried in %d iterations",
                iteration,
                error,
                self.checkpointer.get_checkpoint_file() or "none",
                self.period,
            )
            return False
        path = self.checkpointer.get_checkpoint_file()
        self._whole.add(path)
        self._others.discard(path)
        return True

    def _remove_old(self, iteration: int) -> None:
        """Removes what ``max_to_keep`` and ``max_age_hours`` leave out."""
        found = sorted((n, p) for n, p in self.checkpointer.numbered() if n <= iteration)
        paths = [path for _, path in reversed(found) if path not in self._others]
        leaving = paths[self.max_to_keep :] if self.max_to_keep else []
        leaving += [path for path in paths if path not in leaving and self._is_old(path)]
        if not leaving:
            return
        count = min(_NEVER_OLD, self.max_to_keep or _NEVER_OLD)
        staying = {self.checkpointer.get_checkpoint_file(), *self._newest_complete(paths, count)}
        for path in leaving:
            if path in staying:
                continue
            try:
                os.remove(path)
            except OSError as error:
                logger.warning("An old checkpoint could not be removed: %s", error)

    def _is_old(self, path: str) -> bool:
        if self._max_age_hours is None:
            return False
        return time.time() - os.path.getmtime(path) > self._max_age_hours * 3600

    def _newest_complete(self, paths: list[str], count: int) -> list[str]:
        """The first ``count`` of the paths that are whole."""
        found = []
        for path in paths:
            if len(found) < count and self._is_complete(path):
                found.append(path)
        return found

    def _is_complete(self, path: str) -> bool:
        if path not in self._whole:
            try:
                check_archive(path)
            except (OSError, ValueError) as error:
                logger.warning("Checkpoint %s is not whole: %s", path, error)
                return False
            self._whole.add(path)
        return True
