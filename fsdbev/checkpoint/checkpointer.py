"""Saving and resuming a training."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import torch

from fsdbev.d2.checkpoint import DetectionCheckpointer
from fsdbev.d2.utils import comm
from fsdbev.utils.atomic_write import atomic_write, leftovers

from .files import read_checkpoint, write_checkpoint
from .weights import load_state

logger = logging.getLogger(__name__)

#: The file that names the last checkpoint, beside the checkpoints.
LAST = "last_checkpoint"
#: The name of the checkpoint at the end of a training, without its ending.
FINAL = "model_final"

_ENDING = ".pth"
_NUMBERED = re.compile(r".+_(\d+)\.pth")
_LONGEST_NAME = 255  # bytes that file systems allow


class TrainingCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with files that survive a crash, tell damage and hold no code.

    A checkpoint is a dict: ``model`` and one entry for each checkpointable (``trainer``, ``ema``),
    plus ``iteration``. Loading one is strict: a training goes on with the same model or not at all.
    """

    def save(self, name: str, **extra: Any) -> None:
        """Writes ``<save_dir>/<name>.pth`` and makes it the last checkpoint; rank 0 only.

        Raises:
            OSError: it cannot be written. What is there, and which is the last, stays as it was.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data |= {key: part.state_dict() for key, part in self.checkpointables.items()}
        path = os.path.join(self.save_dir, f"{name}{_ENDING}")
        self.logger.info("Saving checkpoint to %s", path)
        self._remove_unfinished()
        try:
            write_checkpoint(data | extra, path)
            self.tag_last_checkpoint(os.path.basename(path))
        except OSError as error:
            room = f"{_free(self.save_dir)} are free, it needs {_size(_bytes_of(data))}"
            raise type(error)(error.errno, f"{error}; {room}") from error

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        with atomic_write(os.path.join(self.save_dir, LAST)) as file:
            file.write(last_filename_basename.encode())

    def get_checkpoint_file(self) -> str:
        """The checkpoint that ``last_checkpoint`` names, whole or not; "" if it names none here."""
        name = self._tagged()
        return os.path.join(self.save_dir, name) if name else ""

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from, whole or not. All ranks must ask; the
        answer is what rank 0 sees."""
        found = comm.is_main_process() and any(True for _ in self._candidates())
        return comm.all_gather(found)[0]

    def newest_complete(self) -> str:
        """The last checkpoint; where it is damaged or missing, the newest before it that is whole.

        All ranks must ask. Rank 0 chooses and says what it passed over.

        Returns:
            its path, or "" where there never was one.

        Raises:
            ValueError: there are some, but none is whole.
        """
        return self._choose()[0]

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Goes on from ``newest_complete`` if there is one and ``resume`` is set, with all that is
        kept; else loads the weights of ``path`` alone. All ranks must ask.

        Raises:
            ValueError: see ``newest_complete``; another rank cannot read what rank 0 has; or the
                checkpoint is of another model.
        """
        chosen, content = self._choose() if resume else ("", None)
        if not chosen:
            return super().resume_or_load(path, resume=False)
        self._content = content if content is not None else self._read_as_rank_0(chosen)
        problems = [problem for problem in comm.all_gather(self._problem) if problem]
        if problems:
            raise ValueError("; ".join(problems))
        return self.load(chosen)

    _content: dict[str, Any] | None = None  # of the file that is about to be loaded
    _problem: str | None = None  # why this rank has none

    def _read_as_rank_0(self, path: str) -> dict[str, Any] | None:
        try:
            return read_checkpoint(path)
        except (OSError, ValueError) as error:
            self._problem = (
                f"rank {comm.get_rank()} cannot read {path!r}, which rank 0 has read: {error}. Is "
                "train.output_dir on a file system that all machines share?"
            )
            return None

    def _choose(self) -> tuple[str, dict[str, Any] | None]:
        """What ``newest_complete`` returns, the same on all ranks; on rank 0 also what is in it."""
        path, content, error = "", None, None
        if comm.is_main_process():
            try:
                path, content = self._newest_complete()
            except ValueError as caught:
                error = str(caught)
        path, error = comm.all_gather((path, error))[0]
        if error:
            raise ValueError(error)
        return path, content

    def _newest_complete(self) -> tuple[str, dict[str, Any] | None]:
        damaged = []
        for path in self._candidates():
            try:
                content = read_checkpoint(path)
            except (OSError, ValueError) as error:
                damaged.append(str(error))
                logger.error("Checkpoint %s is passed over, it cannot be used: %s", path, error)
                continue
            if damaged or not self._tagged():
                logger.warning("Going on from %s, the newest checkpoint that is whole", path)
            return path, content
        if damaged:
            raise ValueError(
                f"none of the checkpoints in {self.save_dir!r} is whole: {'; '.join(damaged)}. Put "
                "a copy there, or start anew in another train.output_dir"
            )
        return "", None

    def _candidates(self) -> Iterator[str]:
        """Paths of what may be gone on from: what is tagged, and then the newest before it."""
        numbered = sorted(self.numbered(), reverse=True)
        tagged = self._tagged()
        if tagged:
            yield os.path.join(self.save_dir, tagged)
            limit = _number(tagged)
            numbered = [(n, path) for n, path in numbered if limit is None or n < limit]
        paths = [path for _, path in numbered]
        final = os.path.join(self.save_dir, f"{FINAL}{_ENDING}")
        if os.path.isfile(final) and os.path.basename(final) != tagged:
            # it ended a shorter training where others are newer
            last = all(os.path.getmtime(path) <= os.path.getmtime(final) for path in paths)
            paths.insert(0 if last and not tagged else len(paths), final)
        yield from paths

    def numbered(self) -> list[tuple[int, str]]:
        """Iteration and path of all checkpoints that have the iteration in their names."""
        if not os.path.isdir(self.save_dir):
            return []
        numbers = {name: _number(name) for name in os.listdir(self.save_dir)}
        found = [(n, os.path.join(self.save_dir, name)) for name, n in numbers.items()]
        return [(n, path) for n, path in found if n is not None and os.path.isfile(path)]

    def _tagged(self) -> str:
        """The name in ``last_checkpoint``, if it is one of a checkpoint in this folder."""
        try:
            with open(os.path.join(self.save_dir, LAST), "rb") as file:
                name = file.read(_LONGEST_NAME + 1).decode(errors="replace").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            logger.error("%s cannot be read: %s", LAST, error)
            return ""
        is_plain = os.path.basename(name) == name and name.isprintable() and "\\" not in name
        if not is_plain or not name.endswith(_ENDING):
            logger.error("%s in %s names no checkpoint there: %r", LAST, self.save_dir, name)
            return ""
        return name

    def _remove_unfinished(self) -> None:
        """What earlier, killed processes were writing."""
        for names in (f"*{_ENDING}", LAST):
            for path in leftovers(self.save_dir, names):
                path.unlink(missing_ok=True)

    def _load_file(self, filename: str) -> dict[str, Any]:
        content, self._content = self._content, None
        return read_checkpoint(filename) if content is None else content

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        missing = [key for key in self.checkpointables if key not in checkpoint]
        if missing:
            raise ValueError(
                f"the checkpoint has no {' and no '.join(missing)}: this training cannot resume "
                "from it. Start a new one from its weights, by train.init_checkpoint"
            )
        load_state(self.model, checkpoint.pop("model"), strict=True, source="the checkpoint")


def _number(name: str) -> int | None:
    match = _NUMBERED.fullmatch(name)
    return int(match[1]) if match else None


def _bytes_of(value: Any) -> int:
    """Of all tensors in containers."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return 0
    return sum(_bytes_of(item) for item in value)


def _free(folder: str) -> str:
    try:
        return _size(shutil.disk_usage(folder).free)
    except OSError:
        return "an unknown number of MB"


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB"
