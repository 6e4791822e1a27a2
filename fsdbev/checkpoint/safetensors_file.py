"""safetensors files with a SHA-256 digest that detects damage."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import safetensors.torch
import torch
from safetensors import safe_open

from fsdbev.utils.atomic_write import atomic_write

_DIGEST = "sha256"


def write_safetensors(weights: Mapping[str, torch.Tensor], path: str) -> None:
    """Writes tensors atomically, with the digest of their content in the metadata.

    Args:
        weights: contiguous tensors by name.
        path: the file.

    Raises:
        OSError: the disk is full, or the folder is not writable.
    """
    metadata = {"format": "pt", _DIGEST: _digest(weights)}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(dict(weights), metadata=metadata))


def read_safetensors(path: str) -> dict[str, torch.Tensor]:
    """Reads the tensors of a file onto the CPU.

    Raises:
        ValueError: the file is not in this format, is cut short, or its content differs from what
            was written. Files of other programs have no digest, so changed numbers in them are not
            detected.
        OSError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            # safe_open has keys(), but cannot be iterated.
            expected = (file.metadata() or {}).get(_DIGEST)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # safetensors raises many kinds of errors for damaged files
        raise ValueError(f"{path!r} is not an intact safetensors file: {error}") from error
    if expected is not None and expected != _digest(weights):
        raise ValueError(
            f"{path!r} is not an intact safetensors file: its tensors have changed since it was "
            "written. Copy or convert it again"
        )
    return weights


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Returns the SHA-256 of names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    # Sorted, because a file does not preserve the order of the names.
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        # As bytes, because NumPy has no bfloat16.
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
