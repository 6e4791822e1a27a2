"""Loads the compiled operators; warns once with the build command if they are missing."""

from __future__ import annotations

import importlib
import warnings

import torch

BUILD_COMMAND = "pip install -e . --no-build-isolation --no-deps"

#: Device types with kernels in the extension; empty if it is not built.
KERNEL_DEVICES: tuple[str, ...] = ()
#: Why the extension failed to load; empty if it loaded.
LOAD_ERROR = ""

# The extension is optional: the package must import on machines without a compiler.
try:
    _C = importlib.import_module("._C", __package__)
except ImportError as error:
    LOAD_ERROR = str(error)
else:
    KERNEL_DEVICES = ("cpu", "cuda") if _C.WITH_CUDA else ("cpu",)

EXTENSION_BUILT = bool(KERNEL_DEVICES)

# Device types that were warned of, since operators run many times per iteration.
_warned: set[str] = set()


def has_kernels(device: torch.device) -> bool:
    """Returns whether the extension has kernels for ``device``.

    Without kernels the caller runs the reference implementation, which is slower and returns the
    same values. The first such call per process and device type warns with the build command.
    """
    if device.type in KERNEL_DEVICES:
        return True
    if device.type not in _warned:
        _warned.add(device.type)
        reason = LOAD_ERROR or f"it was built for {', '.join(KERNEL_DEVICES)} only"
        warnings.warn(
            f"fsdbev: no compiled operators for {device.type} tensors ({reason}); running slower "
            f"PyTorch ones. To build them, run in the project's root: {BUILD_COMMAND}",
            RuntimeWarning,
            stacklevel=3,  # the caller of the operator
        )
    return False
