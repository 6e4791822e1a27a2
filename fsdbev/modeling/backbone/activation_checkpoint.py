"""Activation checkpointing that leaves BatchNorm's running statistics as one forward pass would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_keeping_statistics(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)``, recomputed in the backward pass instead of keeping its activations.

    The recomputation sees the batch a second time; it must not count twice in running statistics.
    """
    if not torch.is_grad_enabled():
        return module(x)
    return checkpoint(
        module,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), keep_statistics(module)),
    )


@contextmanager
def keep_statistics(module: nn.Module) -> Iterator[None]:
    """Within it, BatchNorms of ``module`` normalise by their batch and leave their buffers."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, num_batches_tracked) in zip(norms, saved, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches_tracked
