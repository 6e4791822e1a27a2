"""Islands of float32 under autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def full_precision(function: Callable) -> Callable:
    """Runs ``function`` in float32 whatever autocast says around it.

    Floating tensors among its arguments, or in lists and tuples of them, are cast to float32
    (float64 stays, for gradient checks); other arguments pass through.
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
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    if type(value) in (list, tuple):
        return type(value)(_cast(v) for v in value)
    if type(value) is dict:
        return {k: _cast(v) for k, v in value.items()}
    return value


def _device_type(value: Any) -> str | None:
    """Device type of the first tensor found."""
    if isinstance(value, Tensor):
        return value.device.type
    if type(value) is dict:
        value = list(value.values())
    if type(value) in (list, tuple):
        return next((d for d in map(_device_type, value) if d is not None), None)
    return None
