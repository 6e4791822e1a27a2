"""Deterministic training and evaluation: the same bits in each run on the same machine."""

from __future__ import annotations

import logging
import os

import torch
from omegaconf import DictConfig

logger = logging.getLogger(__name__)

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
#: Values with which cuBLAS computes reproducibly (NVIDIA's cuBLAS documentation, "Results
#: Reproducibility").
_REPRODUCIBLE_WORKSPACES = (":4096:8", ":16:8")


def set_determinism(train: DictConfig) -> None:
    """Enables deterministic algorithms in this process and its child processes if
    ``train.deterministic`` is set; changes nothing otherwise.

    PyTorch then selects deterministic algorithms and raises RuntimeError at an operation that has
    none, ``lift_splat`` sums in a fixed order on GPUs too, and cuDNN does not benchmark its
    algorithms. Call this function before CUDA starts. Repeated calls are harmless.

    Args:
        train: the section ``train`` of a config; ``deterministic`` and ``seed`` are used.

    Raises:
        ValueError: ``train.seed`` is negative, so each run would draw another seed; the environment
            configures cuBLAS differently; or CUDA is initialized and cuBLAS is not configured.
    """
    if not train.get("deterministic", False):
        return
    if train.seed < 0:
        raise ValueError(
            f"train.deterministic needs a fixed seed, but train.seed={train.seed} draws a new one "
            "for each run: set it to 0 or more"
        )
    _configure_cublas()
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    # Benchmarking selects the fastest algorithm by measured time, which differs between runs.
    torch.backends.cudnn.benchmark = False
    logger.info("Deterministic algorithms only (train.deterministic is set)")


def _configure_cublas() -> None:
    """Sets cuBLAS's environment variable, which cuBLAS reads when it starts."""
    configured = os.environ.get(_WORKSPACE)
    if configured in _REPRODUCIBLE_WORKSPACES:
        return
    if configured is not None or torch.cuda.is_initialized():
        found = "CUDA runs already" if configured is None else f"it is {configured!r}"
        raise ValueError(
            f"train.deterministic needs {_WORKSPACE}={_REPRODUCIBLE_WORKSPACES[0]} in the "
            f"environment before CUDA starts, and {found}"
        )
    os.environ[_WORKSPACE] = _REPRODUCIBLE_WORKSPACES[0]
