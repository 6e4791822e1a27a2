"""Saving and resuming a training."""

from __future__ import annotations

import os
from typing import Any

from fsdbev.d2.checkpoint import DetectionCheckpointer
from fsdbev.whole_file import leftovers, whole_file

from .files import read_checkpoint, write_checkpoint
from .weights import load_state

#: The file that names the last checkpoint, beside the checkpoints.
LAST = "last_checkpoint"


class TrainingCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with files that survive a crash and that hold no code.

    A checkpoint is a dict: ``model`` and one entry for each checkpointable (``trainer``, ``ema``),
    plus ``iteration``. Loading one is strict: a training goes on with the same model or not at all.
    """

    def save(self, name: str, **extra: Any) -> None:
        """Writes ``<save_dir>/<name>.pth`` and makes it the last checkpoint; rank 0 only."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data |= {key: part.state_dict() for key, part in self.checkpointables.items()}
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        self._remove_unfinished()
        write_checkpoint(data | extra, path)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        with whole_file(os.path.join(self.save_dir, LAST)) as file:
            file.write(last_filename_basename.encode())

    def _remove_unfinished(self) -> None:
        """What earlier, killed processes were writing."""
        for names in ("*.pth", LAST):
            for path in leftovers(self.save_dir, names):
                path.unlink(missing_ok=True)

    def _load_file(self, filename: str) -> dict[str, Any]:
        return read_checkpoint(filename)

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        missing = [key for key in self.checkpointables if key not in checkpoint]
        if missing:
            raise ValueError(
                f"the checkpoint has no {' and no '.join(missing)}: this training cannot resume "
                "from it. Start a new one from its weights, by train.init_checkpoint"
            )
        load_state(self.model, checkpoint.pop("model"), strict=True, source="the checkpoint")
