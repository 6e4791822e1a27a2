"""Argument checks shared by the reference implementations.

The compiled operators have their own checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def check_tensors(tensors: Mapping[str, tuple[Tensor, Sequence[int], torch.dtype | None]]) -> None:
    """Checks shape, dtype and device of tensors.

    Args:
        tensors: name -> (tensor, required shape, required dtype or None for any floating-point
            dtype). All must be on the device of the first tensor.

    Raises:
        ValueError: a tensor differs; the message names it.
    """
    first = next(iter(tensors))
    first_tensor = tensors[first][0]
    for name, (tensor, shape, dtype) in tensors.items():
        if list(tensor.shape) != list(shape):
            raise ValueError(
                f"{name} must be {list(shape)} beside {first} {list(first_tensor.shape)}, got "
                f"{list(tensor.shape)}"
            )
        if tensor.device != first_tensor.device:
            raise ValueError(f"{name} is on {tensor.device}, {first} on {first_tensor.device}")
        if tensor.dtype != dtype if dtype else not tensor.is_floating_point():
            wanted = str(dtype).removeprefix("torch.") if dtype else "floating point"
            raise ValueError(f"{name} must be {wanted}, got {tensor.dtype}")


def check_range(name: str, values: Tensor, first: int, stop: int) -> None:
    """Raises ValueError if a value is outside first .. stop - 1."""
    bad = values[(values < first) | (values >= stop)]
    if bad.numel():
        raise ValueError(f"{name} must be in {first} .. {stop - 1}, got {bad[0].item()}")


def check_not_negative(**numbers: int) -> None:
    """Raises ValueError for the first negative number, with its name."""
    for name, number in numbers.items():
        if number < 0:
            raise ValueError(f"{name} must not be negative, got {number}")
