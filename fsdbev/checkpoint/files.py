"""Checkpoint files: written so that a crash leaves the old one whole, read without running code,
and only if no byte that matters has changed since."""

from __future__ import annotations

import errno
import os
import re
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from fsdbev.utils.atomic_write import atomic_write

from .safetensors_file import read_safetensors, write_safetensors

_ARCHIVE = b"PK\x03\x04"
_IS_FOLDER = 0x10  # of the attributes of a record; torch leaves such a one out
_DAMAGED = "it is damaged, cut short or no PyTorch file"
_SAFETENSORS = ".safetensors"
#: What a file of weights may end in.
WEIGHT_FILES = (".pth", _SAFETENSORS)


def write_checkpoint(data: Mapping[str, Any], path: str) -> None:
    """Writes ``data`` atomically, as something that ``torch.load(weights_only=True)`` reads.

    Raises:
        ValueError: an entry is neither a tensor nor a number, text, or container of these.
        OSError: the disk is full, or the folder can't be written to.
    """
    plain = _plain(data, ())
    with atomic_write(path) as file:
        noted = _ErrorNote(file)
        try:
            torch.save(plain, noted)
        except RuntimeError as error:
            raise noted.error or error from None


class _ErrorNote:
    """A file that notes why it could not be written: ``torch.save`` says something else then."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: bytes | memoryview) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def write_weights(weights: Mapping[str, torch.Tensor], path: str, *, entry: str) -> None:
    """Writes weights alone atomically, in the format that the ending of ``path`` names.

    Args:
        entry: what a ``.pth`` file has them under: ``model``, or ``state_dict`` for mmcv.

    Raises:
        ValueError: the ending is none of ``WEIGHT_FILES``.
    """
    check_ending(path)
    # each tensor for itself: neither strided nor with all of the memory that it is a view of
    weights = {
        k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in weights.items()
    }
    if path.endswith(_SAFETENSORS):
        write_safetensors(weights, path)
    else:
        write_checkpoint({entry: weights}, path)


def check_ending(path: str) -> None:
    """ValueError unless ``write_weights`` knows the ending of ``path``."""
    if not path.endswith(WEIGHT_FILES):
        raise ValueError(f"{path!r} must end in {' or '.join(WEIGHT_FILES)}")


def _plain(value: Any, place: tuple[str, ...]) -> Any:
    """The same content in builtin containers and numbers, and tensors."""
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, Mapping):
        return {key: _plain(item, (*place, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item, (*place, str(i))) for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, torch.Tensor | bool | int | float | str):
        return value
    raise ValueError(
        f"checkpoint entry {'.'.join(place)} is a {type(value).__name__}: only tensors, numbers, "
        "text and containers of these can be read back safely"
    )


def read_checkpoint(path: str) -> dict[str, Any]:
    """Reads a ``.pth``, ``.pt`` or ``.safetensors`` file onto the CPU; code in it is refused.

    Returns:
        The file's dict; bare weights and those under ``state_dict`` come as ``{"model": weights}``.

    Raises:
        FileNotFoundError, ValueError: there is no such file, it is none of these formats, or it is
            damaged. Files of torch before 1.6 and others' ``.safetensors`` have no sums to tell.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"checkpoint {path!r} does not exist")
    if path.endswith(_SAFETENSORS):
        return {"model": read_safetensors(path)}
    data = _read_pickle(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path!r} holds a {type(data).__name__}, not a dict of weights")
    if "model" in data:
        return data
    return {"model": data.get("state_dict", data)}


def is_archive(path: str) -> bool:
    """Whether a file is in the format of torch 1.6 and later, which has sums to check."""
    with open(path, "rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def check_archive(path: str) -> None:
    """Checks the sums of all records of a ``.pth`` file. ``torch.load`` does not.

    Raises:
        ValueError: it is no such file, is cut short, or a byte of it has changed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            problem = _problem_of(archive, os.path.getsize(path))
    except Exception as error:  # zipfile has no one error for a file that is damaged
        if _is_os_error(error):
            raise
        problem = f"{_DAMAGED} ({type(error).__name__}: {error})"
    if problem:
        raise ValueError(f"{path!r} is not a checkpoint that is whole: {problem}")


def _problem_of(archive: zipfile.ZipFile, size: int) -> str | None:
    records = archive.infolist()
    # torch stores records as they are; others would be a way to fill the memory from a small file
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        return "its records are compressed"
    if sum(record.file_size for record in records) > size:
        return "its records are larger than the file"
    if any(record.external_attr & _IS_FOLDER for record in records):
        return "a record of numbers says it is a folder"
    damaged = archive.testzip()
    return f"record {damaged!r} has changed since it was written" if damaged else None


def _read_pickle(path: str) -> Any:
    if is_archive(path):
        check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no one error for a file that is damaged
        if _is_os_error(error):
            raise
        raise ValueError(
            f"{path!r} is not a checkpoint that can be read safely: {_reason(error)}"
        ) from error


def _is_os_error(error: Exception) -> bool:
    """Whether it is no fault of the file's content. EINVAL is one: a negative place in it."""
    is_system = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    return is_system or isinstance(error, MemoryError)


def _reason(error: Exception) -> str:
    """Why ``torch.load(weights_only=True)`` failed. Its own message advises to turn safety off."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return (
            f"it holds a {foreign[1]}, and only tensors, numbers, text and containers of these are "
            "read. tools/convert_checkpoint.py --foreign-objects takes its weights out without "
            "running what else is in it"
        )
    return f"{_DAMAGED} ({type(error).__name__})"
