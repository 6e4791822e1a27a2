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

#: Entry of a checkpoint with the settings of its model, a value of ``ModelSettings.to_dict``.
SETTINGS = "model_settings"
#: Entry of a checkpoint with the number of its last iteration.
ITERATION = "iteration"

_DIGEST = "sha256"
#: Entry -> its name in the metadata.
_NAMES = {entry: f"fsdbev.{entry}" for entry in (SETTINGS, ITERATION)}


def write_safetensors(
    weights: Mapping[str, torch.Tensor], path: str, entries: Mapping[str, Any] | None = None
) -> None:
    """Writes tensors atomically, with the digest of their content in the metadata.

    Args:
        weights: contiguous tensors by name.
        path: the file.
        entries: values of ``SETTINGS`` and ``ITERATION`` as JSON types, for the metadata.

    Raises:
        OSError: the disk is full, or the folder is not writable.
    """
    texts = {_NAMES[entry]: json.dumps(value) for entry, value in (entries or {}).items()}
    metadata = {"format": "pt", _DIGEST: _digest(weights, texts), **texts}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(dict(weights), metadata=metadata))


def read_safetensors(path: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Reads a file onto the CPU.

    Returns:
        The tensors by name, and the entries of :func:`write_safetensors` that the file has.

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
    texts = {name: metadata[name] for name in _NAMES.values() if name in metadata}
    if _DIGEST in metadata and metadata[_DIGEST] != _digest(weights, texts):
        raise ValueError(
            f"{path!r} is not an intact safetensors file: its content has changed since it was "
            "written. Copy or convert it again"
        )
    entries = {}
    for entry, name in _NAMES.items():
        try:
            entries |= {entry: json.loads(texts[name])} if name in texts else {}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path!r}: its metadata {name} is not JSON ({error})") from error
    return weights, entries


def _digest(weights: Mapping[str, torch.Tensor], texts: Mapping[str, str]) -> str:
    """Returns the SHA-256 of names, dtypes, shapes and bytes of the tensors, and of texts."""
    digest = hashlib.sha256()
    # Sorted, because a file does not preserve the order of the names.
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        # As bytes, because NumPy has no bfloat16.
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    for name in _NAMES.values():
        digest.update(texts.get(name, "").encode())
    return digest.hexdigest()
