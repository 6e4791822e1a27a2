"""Checkpointer of a training: saves it and resumes from the newest complete checkpoint."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fsdbev.d2.checkpoint import DetectionCheckpointer
from fsdbev.d2.utils import comm
from fsdbev.utils.atomic_write import atomic_write, unfinished_paths

from .files import SETTINGS, read_checkpoint, write_checkpoint
from .settings import ModelSettings
from .weights import load_state

logger = logging.getLogger(__name__)

#: File in the folder of the checkpoints that names the last one.
LAST = "last_checkpoint"
#: Name of the checkpoint at the end of a training, without the file ending.
FINAL = "model_final"

_ENDING = ".pth"
_NUMBERED = re.compile(r".+_(\d+)\.pth")
_MAX_NAME_BYTES = 255  # limit of common file systems


class TrainingCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with atomic writes, detection of damage and files without code.

    A checkpoint is a dict: ``model``, its ``model_settings``, one entry for each checkpointable
    (``trainer``, ``ema``), and ``iteration``. Loading is strict: the settings, and names and shapes
    of the weights, must equal the model's.

    Args:
        model: the model.
        save_dir: folder of the checkpoints.
        settings: settings of model and data; None: those of the model alone.
        checkpointables: further objects to save, by the name of their entry.
    """

    #: Content of the file that ``load`` is about to read, if it has been read already.
    _preloaded: dict[str, Any] | None = None
    #: File that ``load`` reads.
    _source: str = ""
    #: Reason why this rank could not read the checkpoint that rank 0 chose.
    _read_error: str | None = None

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        settings: ModelSettings | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.settings = settings or ModelSettings.of(self.model)

    def save(self, name: str, **extra: Any) -> None:
        """Writes ``<save_dir>/<name>.pth`` and tags it as the last checkpoint, on rank 0 only.

        Args:
            name: file name without ending.
            extra: further entries of the checkpoint, such as ``iteration``.

        Raises:
            OSError: the file cannot be written. Existing checkpoints and the tag are unchanged.
            ValueError: an entry is of a type that :func:`.write_checkpoint` does not accept.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        if settings := self.settings.to_dict():
            data[SETTINGS] = settings
        data |= {key: part.state_dict() for key, part in self.checkpointables.items()}
        path = os.path.join(self.save_dir, f"{name}{_ENDING}")
        self.logger.info("Saving checkpoint to %s", path)
        self._remove_partial_files()
        try:
            write_checkpoint(data | extra, path)
            self.tag_last_checkpoint(os.path.basename(path))
        except OSError as error:
            free, needed = _free_space(self.save_dir), _megabytes(_tensor_bytes(data))
            message = f"{error}; {free} are free, {needed} are needed"
            raise type(error)(error.errno, message) from error

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Writes the name of the last checkpoint atomically; fvcore's method writes in place."""
        with atomic_write(os.path.join(self.save_dir, LAST)) as file:
            file.write(last_filename_basename.encode())

    def get_checkpoint_file(self) -> str:
        """Returns the path of the checkpoint that ``last_checkpoint`` names, complete or not; "" if
        there is none in this folder."""
        name = self._tagged_name()
        return os.path.join(self.save_dir, name) if name else ""

    def has_checkpoint(self) -> bool:
        """Returns whether rank 0 finds a checkpoint to resume from, complete or not.

        A collective operation: all ranks must call it.
        """
        # Rank 0 decides for all: ranks that disagree would wait for each other forever.
        found = comm.is_main_process() and any(True for _ in self._candidates())
        return comm.all_gather(found)[0]

    def newest_complete(self) -> str:
        """Returns the path of the last checkpoint or, if that is damaged or missing, of the newest
        complete one before it; "" if there are no checkpoints.

        A collective operation: all ranks must call it. Rank 0 chooses and logs skipped checkpoints.

        Raises:
            ValueError: there are checkpoints, but none is complete.
        """
        return self._choose()[0]

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resumes model and checkpointables from :meth:`newest_complete` if ``resume`` is set and
        there is a checkpoint; otherwise loads only the weights of ``path``.

        A collective operation: all ranks must call it.

        Args:
            path: file of initial weights; "" for none.
            resume: whether to look for a checkpoint in ``save_dir``.

        Returns:
            The remaining entries of the checkpoint, such as ``iteration``.

        Raises:
            ValueError: see :meth:`newest_complete`; a rank cannot read the file that rank 0 chose;
                or the checkpoint does not fit the model.
        """
        chosen, content = self._choose() if resume else ("", None)
        if not chosen:
            return super().resume_or_load(path, resume=False)
        # Rank 0 has read the file to check it; load() would read it a second time.
        self._preloaded = content if content is not None else self._read_chosen(chosen)
        # All ranks raise the error of any rank, so that none waits for a rank that has ended.
        problems = [problem for problem in comm.all_gather(self._read_error) if problem]
        if problems:
            raise ValueError("; ".join(problems))
        try:
            return self.load(chosen)
        except ValueError as error:
            raise ValueError(
                f"{error}. To train another model from its weights, set train.init_checkpoint="
                f"{chosen} and a new train.output_dir, without --resume"
            ) from error

    def _read_chosen(self, path: str) -> dict[str, Any] | None:
        """Reads the checkpoint that rank 0 chose; returns None and sets ``_read_error`` if this
        rank cannot read it."""
        try:
            return read_checkpoint(path)
        except (OSError, ValueError) as error:
            self._read_error = (
                f"rank {comm.get_rank()} cannot read {path!r}, which rank 0 has read: {error}. Is "
                "train.output_dir on a file system that all machines share?"
            )
            return None

    def _choose(self) -> tuple[str, dict[str, Any] | None]:
        """Returns the path of :meth:`newest_complete` on all ranks, and its content on rank 0."""
        path, content, error = "", None, None
        if comm.is_main_process():
            try:
                path, content = self._find_newest_complete()
            except ValueError as caught:
                error = str(caught)
        path, error = comm.all_gather((path, error))[0]
        if error:
            raise ValueError(error)
        return path, content

    def _find_newest_complete(self) -> tuple[str, dict[str, Any] | None]:
        """Returns path and content of the first candidate that can be read, ("", None) without
        candidates.

        Raises:
            ValueError: no candidate can be read.
        """
        damaged = []
        for path in self._candidates():
            try:
                content = read_checkpoint(path)
            except (OSError, ValueError) as error:
                damaged.append(str(error))
                logger.error("Checkpoint %s is skipped, as it cannot be read: %s", path, error)
                continue
            if damaged or not self._tagged_name():
                logger.warning("Resuming from %s, the newest complete checkpoint", path)
            return path, content
        if damaged:
            raise ValueError(
                f"none of the checkpoints in {self.save_dir!r} is complete: {'; '.join(damaged)}. "
                "Restore one from a copy, or start a new training in another train.output_dir"
            )
        return "", None

    def _candidates(self) -> Iterator[str]:
        """Yields paths to resume from: the tagged checkpoint, then older ones, newest first."""
        numbered = sorted(self.numbered(), reverse=True)
        tagged = self._tagged_name()
        if tagged:
            yield os.path.join(self.save_dir, tagged)
            limit = _iteration_of(tagged)
            numbered = [(n, path) for n, path in numbered if limit is None or n < limit]
        paths = [path for _, path in numbered]
        final = os.path.join(self.save_dir, f"{FINAL}{_ENDING}")
        if os.path.isfile(final) and os.path.basename(final) != tagged:
            # If others are newer, this is the end of a shorter training that was continued.
            is_newest = all(os.path.getmtime(path) <= os.path.getmtime(final) for path in paths)
            paths.insert(0 if is_newest and not tagged else len(paths), final)
        yield from paths

    def numbered(self) -> list[tuple[int, str]]:
        """Returns iteration and path of all checkpoints with the iteration in their names."""
        if not os.path.isdir(self.save_dir):
            return []
        numbers = {name: _iteration_of(name) for name in os.listdir(self.save_dir)}
        found = [(n, os.path.join(self.save_dir, name)) for name, n in numbers.items()]
        return [(n, path) for n, path in found if n is not None and os.path.isfile(path)]

    def _tagged_name(self) -> str:
        """Returns the name in ``last_checkpoint``; "" if it is not the name of a checkpoint file in
        this folder."""
        try:
            with open(os.path.join(self.save_dir, LAST), "rb") as file:
                name = file.read(_MAX_NAME_BYTES + 1).decode(errors="replace").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            logger.error("%s cannot be read: %s", LAST, error)
            return ""
        # A damaged or foreign tag must not lead to a file outside of this folder.
        is_plain = os.path.basename(name) == name and name.isprintable() and "\\" not in name
        if not is_plain or not name.endswith(_ENDING):
            logger.error("%s in %s is not the name of a checkpoint: %r", LAST, self.save_dir, name)
            return ""
        return name

    def _remove_partial_files(self) -> None:
        """Removes the temporary files of killed processes."""
        for names in (f"*{_ENDING}", LAST):
            for path in unfinished_paths(self.save_dir, names):
                path.unlink(missing_ok=True)

    def _load_file(self, filename: str) -> dict[str, Any]:
        self._source = filename
        content, self._preloaded = self._preloaded, None  # release the memory after loading
        return read_checkpoint(filename) if content is None else content

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        path = self._source
        missing = [key for key in self.checkpointables if key not in checkpoint]
        if missing:
            raise ValueError(
                f"{path} has no {' and no '.join(missing)}, so this training cannot resume from it"
            )
        saved = ModelSettings.from_dict(checkpoint.pop(SETTINGS, None), path)
        self.settings.check(saved, source=path, remedy="A training keeps its settings")
        load_state(self.model, checkpoint.pop("model"), strict=True, source=path)


def _iteration_of(name: str) -> int | None:
    """Returns the iteration in the name of a checkpoint, None if there is none."""
    match = _NUMBERED.fullmatch(name)
    return int(match[1]) if match else None


def _tensor_bytes(value: Any) -> int:
    """Returns the size of all tensors in nested dicts, lists and tuples, bytes."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return 0
    return sum(_tensor_bytes(item) for item in value)


def _free_space(folder: str) -> str:
    """Formats the free space of a folder's disk."""
    try:
        return _megabytes(shutil.disk_usage(folder).free)
    except OSError:  # part of an error message, which must not fail itself
        return "an unknown number of MB"


def _megabytes(number: int) -> str:
    """Formats a number of bytes."""
    return f"{number / 1e6:.1f} MB"
