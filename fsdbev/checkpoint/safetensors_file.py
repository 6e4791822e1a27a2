"""safetensors files with a SHA-256 digest that detects damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open

from fsdbev.utils.atomic_write import atomic_write

_DIGEST = "sha256"
_SETTINGS = "fsdbev.model_settings"


def write_safetensors(weights: Mapping[str, torch.Tensor], path: str, settings: Any = None) -> None:
    """Writes tensors atomically, with the digest of their content in the metadata.

    Args:
        weights: contiguous tensors by name.
        path: the file.
        settings: settings of the model as JSON types, for the metadata; None: no such entry.

    Raises:
        OSError: the disk is full, or the folder is not writable.
    """
    text = json.dumps(settings) if settings else ""
    metadata = {"format": "pt", _DIGEST: _digest(weights, text)}
    if text:
        metadata[_SETTINGS] = text
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(dict(weights), metadata=metadata))


def read_safetensors(path: str) -> tuple[dict[str, torch.Tensor], Any]:
    """Reads a file onto the CPU.

    Returns:
        The tensors by name, and the settings of the model as JSON types; None if the file has none.

    Raises:
        ValueError: the file is not in this format, is cut short, or its content differs from what
            was written. Files of other programs have no digest, so changed numbers in them are not
            detected.
        OSError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # safe_open has keys(), but cannot be iterated.
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # safetensors raises many kinds of errors for damaged files
        raise ValueError(f"{path!r} is not an intact safetensors file: {error}") from error
    text = metadata.get(_SETTINGS, "")
    if _DIGEST in metadata and metadata[_DIGEST] != _digest(weights, text):
        raise ValueError(
            f"{path!r} is not an intact safetensors file: its content has changed since it was "
            "written. Copy or convert it again"
        )
    try:
        return weights, json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path!r}: its metadata {_SETTINGS} is not JSON ({error})") from error


def _digest(weights: Mapping[str, torch.Tensor], text: str) -> str:
    """Returns the SHA-256 of names, dtypes, shapes and bytes of the tensors, and of a text."""
    digest = hashlib.sha256()
    # Sorted, because a file does not preserve the order of the names.
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        # As bytes, because NumPy has no bfloat16.
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    digest.update(text.encode())
    return digest.hexdigest()
