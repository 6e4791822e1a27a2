"""Files of safetensors, with a digest that tells a damaged one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import safetensors.torch
import torch
from safetensors import safe_open

from fsdbev.utils.atomic_write import atomic_write

_DIGEST = "sha256"


def write_safetensors(weights: Mapping[str, torch.Tensor], path: str) -> None:
    """Writes contiguous tensors atomically; the digest of their content is in the metadata.

    Raises:
        OSError: the disk is full, or the folder can't be written to.
    """
    metadata = {"format": "pt", _DIGEST: _digest(weights)}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(dict(weights), metadata=metadata))


def read_safetensors(path: str) -> dict[str, torch.Tensor]:
    """The tensors of a file, on the CPU.

    Raises:
        ValueError: it is no such file, is cut short, or its content is not what was written. Files
            of other programs have no digest; what is flipped in their numbers is not seen.
    """
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get(_DIGEST)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # it has no one error for a file that is damaged
        raise ValueError(f"{path!r} is not a whole safetensors file: {error}") from error
    if expected is not None and expected != _digest(weights):
        raise ValueError(
            f"{path!r} is not a whole safetensors file: its tensors are not those that were "
            "written. Copy or convert it again"
        )
    return weights


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
