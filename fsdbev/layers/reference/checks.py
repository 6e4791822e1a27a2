"""Checks of arguments that the references share. The compiled operators have their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def check_tensors(tensors: Mapping[str, tuple[Tensor, Sequence[int], torch.dtype | None]]) -> None:
    """Raises ValueError unless every tensor has its shape and dtype, on the device of the first.

    Args:
        tensors: name -> tensor, shape, dtype or None for any floating-point one.
    """
    first = next(iter(tensors))
    beside = tensors[first][0]
    for name, (tensor, shape, dtype) in tensors.items():
        if list(tensor.shape) != list(shape):
            raise ValueError(
                f"{name} must be {list(shape)} beside {first} {list(beside.shape)}, got "
                f"{list(tensor.shape)}"
            )
        if tensor.device != beside.device:
            raise ValueError(f"{name} is on {tensor.device}, {first} on {beside.device}")
        if tensor.dtype != dtype if dtype else not tensor.is_floating_point():
            wanted = str(dtype).removeprefix("torch.") if dtype else "floating point"
            raise ValueError(f"{name} must be {wanted}, got {tensor.dtype}")


def check_range(name: str, values: Tensor, first: int, stop: int) -> None:
    """Raises ValueError unless values are in first .. stop - 1."""
    bad = values[(values < first) | (values >= stop)]
    if bad.numel():
        raise ValueError(f"{name} must be in {first} .. {stop - 1}, got {bad[0].item()}")


def check_not_negative(**numbers: int) -> None:
    """Raises ValueError that names the first negative number."""
    for name, number in numbers.items():
        if number < 0:
            raise ValueError(f"{name} must not be negative, got {number}")
