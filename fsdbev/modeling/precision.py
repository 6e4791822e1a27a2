"""Float32 regions inside autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def full_precision(function: Callable) -> Callable:
    """Decorates a function to run with autocast disabled and its inputs in float32.

    Casts float16 and bfloat16 tensors among the arguments, also inside lists, tuples and dicts, to
    float32. Other arguments pass through; float64 stays float64 for gradient checks.

    Used where rounding changes results (docs/model.md, "Depth network"): depth network, MSFE
    logits, view transform, BEV encoder, decoding and all losses.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        device_type = _device_type((args, kwargs))
        if device_type is None or not torch.is_autocast_enabled(device_type):
            return function(*_cast(args), **_cast(kwargs))
        with torch.autocast(device_type, enabled=False):
            return function(*_cast(args), **_cast(kwargs))

    return wrapper


def _cast(value: Any) -> Any:
    """Casts half-precision tensors in ``value`` to float32."""
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    # Exact types only: a named tuple could not be rebuilt from a generator.
    if type(value) in (list, tuple):
        return type(value)(_cast(v) for v in value)
    if type(value) is dict:
        return {k: _cast(v) for k, v in value.items()}
    return value


def _device_type(value: Any) -> str | None:
    """Returns the device type of the first tensor in ``value``; None without a tensor."""
    if isinstance(value, Tensor):
        return value.device.type
    if type(value) is dict:
        value = list(value.values())
    if type(value) in (list, tuple):
        return next((d for d in map(_device_type, value) if d is not None), None)
    return None
