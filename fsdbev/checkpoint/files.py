"""Checkpoint files: written so that a crash leaves the old one whole, read without running code."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from safetensors import SafetensorError

from fsdbev.whole_file import whole_file

_SAFETENSORS = ".safetensors"
#: What a file of weights may end in.
WEIGHT_FILES = (".pth", _SAFETENSORS)


def write_checkpoint(data: Mapping[str, Any], path: str) -> None:
    """Writes ``data`` atomically, as something that ``torch.load(weights_only=True)`` reads.

    Raises:
        ValueError: an entry is neither a tensor nor a number, text, or container of these.
    """
    plain = _plain(data, ())
    with whole_file(path) as file:
        torch.save(plain, file)


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
    if not path.endswith(_SAFETENSORS):
        write_checkpoint({entry: weights}, path)
        return
    with whole_file(path) as file:
        file.write(safetensors.torch.save(weights, metadata={"format": "pt"}))


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
        FileNotFoundError, ValueError: there is no such file, or it is none of these formats.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"checkpoint {path!r} does not exist")
    if path.endswith(_SAFETENSORS):
        return {"model": _read_safetensors(path)}
    data = _read_pickle(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path!r} holds a {type(data).__name__}, not a dict of weights")
    if "model" in data:
        return data
    return {"model": data.get("state_dict", data)}


def _read_safetensors(path: str) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path!r} is not a whole safetensors file: {error}") from error


def _read_pickle(path: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch.load has no one error for a file that is damaged
        raise ValueError(
            f"{path!r} is not a checkpoint that can be read safely: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    """Why ``torch.load(weights_only=True)`` failed. Its own message advises to turn safety off."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign:
        return (
            f"it holds a {foreign[1]}, and only tensors, numbers, text and containers of these are "
            "read. If, and only if, you trust who made it, keep its weights alone. This runs "
            "whatever code is in the file:\n  python -c \"import torch; data = torch.load('FILE', "
            "map_location='cpu', weights_only=False); torch.save(data.get('state_dict', data), "
            "'WEIGHTS.pth')\""
        )
    return f"it is damaged, cut short or no PyTorch file ({type(error).__name__})"
