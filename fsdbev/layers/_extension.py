"""Loads the compiled operators, or says once how to build them."""

from __future__ import annotations

import importlib
import warnings

import torch

BUILD_COMMAND = "pip install -e . --no-build-isolation --no-deps"

#: Device types that the extension has kernels for; empty when it is not built.
KERNEL_DEVICES: tuple[str, ...] = ()
#: Why the extension did not load; empty when it did.
LOAD_ERROR = ""

try:
    _C = importlib.import_module("._C", __package__)
except ImportError as error:
    LOAD_ERROR = str(error)
else:
    KERNEL_DEVICES = ("cpu", "cuda") if _C.WITH_CUDA else ("cpu",)

EXTENSION_BUILT = bool(KERNEL_DEVICES)

_warned: set[str] = set()


def has_kernels(device: torch.device) -> bool:
    """Whether the extension has kernels for ``device``.

    Where it has none, the caller takes the plain PyTorch twin: same values, slower. The first such
    call of the process on a device type warns with the build command.
    """
    if device.type in KERNEL_DEVICES:
        return True
    if device.type not in _warned:
        _warned.add(device.type)
        reason = LOAD_ERROR or f"it was built for {', '.join(KERNEL_DEVICES)} only"
        warnings.warn(
            f"fsdbev: no compiled operators for {device.type} tensors ({reason}); slower PyTorch "
            f"ones take over. To build them, run in the project's root: {BUILD_COMMAND}",
            RuntimeWarning,
            stacklevel=3,
        )
    return False
