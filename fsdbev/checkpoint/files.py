"""Checkpoint files: atomic writing, and reading that runs no code and detects damage."""

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

from fsdbev.d2.utils.file_io import PathManager
from fsdbev.utils.atomic_write import atomic_write
from fsdbev.utils.model_cards import ZooHandler

from .safetensors_file import ITERATION, SETTINGS, read_safetensors, write_safetensors

_ZIP_MAGIC = b"PK\x03\x04"
#: Directory attribute of a zip record. torch skips such a record without an error, and its tensor
#: would contain uninitialised memory.
_IS_FOLDER = 0x10
_DAMAGED = "it is damaged, cut short or not a PyTorch file"
_SAFETENSORS = ".safetensors"
#: Possible endings of a file of weights.
WEIGHT_FILES = (".pth", _SAFETENSORS)

PathManager.register_handler(ZooHandler())


def write_checkpoint(data: Mapping[str, Any], path: str) -> None:
    """Writes a checkpoint atomically, in a form that ``torch.load(weights_only=True)`` reads.

    Args:
        data: tensors, numbers, text and containers of these by name.
        path: the file.

    Raises:
        ValueError: an entry is of another type; the message names it.
        OSError: the disk is full, or the folder is not writable.
    """
    plain = _to_builtins(data, ())
    with atomic_write(path) as file:
        recorder = _ErrorRecorder(file)
        try:
            torch.save(plain, recorder)
        except RuntimeError as error:
            raise recorder.error or error from None


class _ErrorRecorder:
    """File object that keeps its OSError, which ``torch.save`` replaces by a RuntimeError without
    the reason."""

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


def write_weights(
    weights: Mapping[str, torch.Tensor],
    path: str,
    *,
    entry: str,
    settings: Mapping[str, Any] | None = None,
    iteration: int | None = None,
) -> None:
    """Writes a file of weights atomically, in the format of the ending of ``path``.

    Args:
        weights: tensors by name.
        path: the file.
        entry: key of the weights in a ``.pth`` file: ``model``, or ``state_dict`` for mmcv.
        settings: a value of ``ModelSettings.to_dict``; None: the file does not say them.
        iteration: number of the last iteration; None: the file does not say it.

    Raises:
        ValueError: the ending is not in ``WEIGHT_FILES``.
        OSError: the disk is full, or the folder is not writable.
    """
    check_ending(path)
    # Copies: torch.save would write the whole memory behind a view, and safetensors accepts only
    # contiguous tensors that share no memory.
    weights = {
        k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in weights.items()
    }
    entries = {SETTINGS: settings} if settings else {}
    entries |= {} if iteration is None else {ITERATION: iteration}
    if path.endswith(_SAFETENSORS):
        write_safetensors(weights, path, entries)
    else:
        write_checkpoint({entry: weights} | entries, path)


def check_ending(path: str) -> None:
    """Checks that :func:`write_weights` supports the ending of ``path``.

    Raises:
        ValueError: it does not.
    """
    if not path.endswith(WEIGHT_FILES):
        raise ValueError(f"{path!r} must end in {' or '.join(WEIGHT_FILES)}")


def _to_builtins(value: Any, place: tuple[str, ...]) -> Any:
    """Converts containers and NumPy scalars to builtin types; tensors stay as they are.

    Args:
        value: an entry of a checkpoint.
        place: keys that lead to the entry, for the message.

    Raises:
        ValueError: the entry is of a type that ``weights_only`` loading refuses.
    """
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, Mapping):
        return {key: _to_builtins(item, (*place, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_to_builtins(item, (*place, str(i))) for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, torch.Tensor | bool | int | float | str):
        return value
    raise ValueError(
        f"checkpoint entry {'.'.join(place)} is a {type(value).__name__}; only tensors, numbers, "
        "text and containers of these can be loaded safely"
    )


def read_checkpoint(path: str) -> dict[str, Any]:
    """Reads a ``.pth``, ``.pt`` or ``.safetensors`` file onto the CPU without running code in it.

    Args:
        path: the file, or ``zoo://<name>`` for the weights of a released model.

    Returns:
        The file's dict. Weights at the top level or under ``state_dict`` are returned as
        ``{"model": weights}``, with the entries ``model_settings`` and ``iteration`` if the file
        has them.

    Raises:
        FileNotFoundError: there is no such file or released model.
        ValueError: the file has another format, contains code, or is damaged. Files of torch before
            1.6 and ``.safetensors`` files of other programs have no checksums, so changed numbers
            in them are not detected.
    """
    path = PathManager.get_local_path(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"checkpoint {path!r} does not exist")
    if path.endswith(_SAFETENSORS):
        weights, entries = read_safetensors(path)
        return {"model": weights} | _kept_entries(entries)
    data = _read_pickle(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path!r} contains a {type(data).__name__}, not a dict of weights")
    if "model" in data:
        return data
    if "state_dict" not in data:
        return {"model": data}
    return {"model": data["state_dict"]} | _kept_entries(data)


def _kept_entries(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of a file of weights beside the weights."""
    return {key: data[key] for key in (SETTINGS, ITERATION) if key in data}


def is_archive(path: str) -> bool:
    """Returns whether a file is a zip archive, the format of torch 1.6 and later, which has
    checksums."""
    with open(path, "rb") as file:
        return file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC


def check_archive(path: str) -> None:
    """Checks the CRC-32 of all records of a ``.pth`` file, which ``torch.load`` does not check.

    Raises:
        ValueError: the file is not a zip archive, is cut short, or has changed bytes.
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            problem = _archive_problem(archive, os.path.getsize(path))
    except Exception as error:  # zipfile raises many kinds of errors for damaged files
        if _is_system_error(error):
            raise
        problem = f"{_DAMAGED} ({type(error).__name__}: {error})"
    if problem:
        raise ValueError(f"{path!r} is not an intact checkpoint: {problem}")


def _archive_problem(archive: zipfile.ZipFile, size: int) -> str | None:
    """Returns the first problem of a zip archive of ``size`` bytes, None for an intact one."""
    records = archive.infolist()
    # torch stores records uncompressed. A small file with compressed or overlapping records could
    # unpack to more than the memory.
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        return "its records are compressed"
    if sum(record.file_size for record in records) > size:
        return "its records are larger than the file"
    if any(record.external_attr & _IS_FOLDER for record in records):
        return "a data record is marked as a folder"
    damaged = archive.testzip()
    return f"record {damaged!r} has changed since it was written" if damaged else None


def _read_pickle(path: str) -> Any:
    """Reads a file of ``torch.save`` onto the CPU.

    Raises:
        ValueError: the file is damaged or contains other objects than tensors and plain data.
    """
    if is_archive(path):
        check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds of errors for damaged files
        if _is_system_error(error):
            raise
        raise ValueError(
            f"{path!r} is not a checkpoint that can be read safely: {_failure_reason(error)}"
        ) from error


def _is_system_error(error: Exception) -> bool:
    """Returns whether an error comes from the system rather than from the content of a file."""
    # EINVAL comes from the content: a damaged file can lead to a seek to a negative position.
    is_system = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    return is_system or isinstance(error, MemoryError)


def _failure_reason(error: Exception) -> str:
    """Returns the reason why ``torch.load(weights_only=True)`` failed. torch's own message, which
    recommends ``weights_only=False``, is not passed on."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return (
            f"it contains a {foreign[1]}; only tensors, numbers, text and containers of these are "
            "read. tools/convert_checkpoint.py --foreign-objects extracts the weights without "
            "running code of the file"
        )
    return f"{_DAMAGED} ({type(error).__name__})"
