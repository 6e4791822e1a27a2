"""Activation checkpointing that updates BatchNorm's running statistics once per iteration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_module(module: nn.Module, x: Tensor) -> Tensor:
    """Returns ``module(x)`` and recomputes it in the backward pass instead of storing activations.

    The recomputation leaves BatchNorm's running statistics unchanged.

    Args:
        module: the module to run.
        x: its only input.
    """
    # Earlier frames and evaluation run without gradient: there is nothing to recompute.
    if not torch.is_grad_enabled():
        return module(x)
    # The recomputation is a second forward pass over the same batch: without
    # freeze_running_statistics the batch would enter the running mean and variance twice.
    # PyTorch supports context_fn only with use_reentrant=False.
    return checkpoint(
        module,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), freeze_running_statistics(module)),
    )


@contextmanager
def freeze_running_statistics(module: nn.Module) -> Iterator[None]:
    """Lets the BatchNorms of ``module`` normalise by batch statistics without updating buffers."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    # Evaluation mode would also keep the buffers, but it normalises by running statistics, and the
    # recomputed activations would differ. Momentum 0 keeps the running mean and variance. The
    # counter of batches is incremented in place, so a copy takes the increment.
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, num_batches_tracked) in zip(norms, saved, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, num_batches_tracked
