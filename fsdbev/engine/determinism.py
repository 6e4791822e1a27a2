"""Trainings and evaluations that give the same bits each time."""

from __future__ import annotations

import logging
import os

import torch
from omegaconf import DictConfig

logger = logging.getLogger(__name__)

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
#: What makes cuBLAS take its workspaces in a fixed order: NVIDIA's cuBLAS documentation, "Results
#: Reproducibility".
_ORDERED_WORKSPACES = (":4096:8", ":16:8")


def set_determinism(train: DictConfig) -> None:
    """Makes this process, and those that it starts, compute deterministically where
    ``train.deterministic`` asks for it; else leaves everything as it is.

    PyTorch then takes deterministic algorithms, and raises RuntimeError at an operation that has
    none; ``lift_splat`` sums in a fixed order on GPUs too; cuDNN measures no algorithms. It is to
    be called before CUDA starts, and may be called again.

    Raises:
        ValueError: ``train.seed`` is negative, so that no two runs can be the same, or cuBLAS was
            told otherwise, or CUDA runs without it having been told.
    """
    if not train.get("deterministic", False):
        return
    if train.seed < 0:
        raise ValueError(
            f"train.deterministic needs a seed, and train.seed={train.seed} takes a new one each "
            "time: set it to 0 or more"
        )
    _order_workspaces()
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    logger.info("Deterministic algorithms only, as train.deterministic says")


def _order_workspaces() -> None:
    """cuBLAS reads the variable when it starts."""
    told = os.environ.get(_WORKSPACE)
    if told in _ORDERED_WORKSPACES:
        return
    if told is not None or torch.cuda.is_initialized():
        found = "CUDA runs already" if told is None else f"it is {told!r}"
        raise ValueError(
            f"train.deterministic needs {_WORKSPACE}={_ORDERED_WORKSPACES[0]} in the environment "
            f"before CUDA starts, and {found}"
        )
    os.environ[_WORKSPACE] = _ORDERED_WORKSPACES[0]
