"""Losses and gradient norms of an iteration on all ranks, and values that are not finite.

Shapes: R ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fsdbev.d2.utils import comm


@dataclass(frozen=True)
class StepReport:
    """Results of one iteration on all ranks; identical on each rank.

    Attributes:
        losses: name -> R values.
        grad_norms: R norms of the gradients, equal because DDP averages the gradients.
        waits: R times (s) for which the ranks waited for their batches.
        replaced: number of samples, over all ranks, that replace an unreadable one.
    """

    losses: dict[str, list[float]]
    grad_norms: list[float]
    waits: list[float]
    replaced: int

    def bad_losses(self) -> dict[int, dict[str, float]]:
        """Returns rank -> name -> value of the losses that are not finite, sorted by rank."""
        bad: dict[int, dict[str, float]] = {}
        for name, per_rank in self.losses.items():
            for rank, value in enumerate(per_rank):
                if not math.isfinite(value):
                    bad.setdefault(rank, {})[name] = value
        return dict(sorted(bad.items()))

    def has_finite_gradients(self) -> bool:
        """Returns whether the gradient norm is finite on all ranks."""
        return all(map(math.isfinite, self.grad_norms))

    def means(self) -> dict[str, float]:
        """Returns each loss averaged over the ranks."""
        return {name: sum(values) / len(values) for name, values in self.losses.items()}


def exchange(
    losses: dict[str, Tensor], grad_norm: Tensor, *, data_time: float, replaced: int
) -> StepReport:
    """Gathers the values of all ranks, with one collective and one synchronisation of the device.

    Args:
        losses: name -> () loss of this rank.
        grad_norm: () norm of the gradients before clipping.
        data_time: time (s) for which this rank waited for its batch.
        replaced: number of this rank's samples that replace an unreadable one.
    """
    values = torch.stack([*(loss.detach().float() for loss in losses.values()), grad_norm])
    host_values = torch.tensor([data_time, replaced]).to(values, non_blocking=True)
    # All values travel in one tensor: each further .tolist() or all_gather would wait again.
    values = torch.cat([values, host_values])
    ranks = [torch.empty_like(values) for _ in range(comm.get_world_size())]
    if len(ranks) > 1:
        dist.all_gather(ranks, values)
    else:
        ranks = [values]
    *per_loss, norms, waits, replacements = torch.stack(ranks, dim=1).tolist()
    by_name = dict(zip(losses, per_loss, strict=True))
    return StepReport(by_name, norms, waits, int(sum(replacements)))


def sample_names(batch: Sequence[Any]) -> list[str]:
    """Returns the tokens of a batch's samples, or ``number <position>`` for one without a token."""
    return [
        str(sample["sample_token"] if "sample_token" in sample else f"number {position}")
        for position, sample in enumerate(batch)
    ]


def describe_problem(
    report: StepReport, batch: Sequence[Any], *, scaled: bool, iteration: int
) -> str | None:
    """Describes the losses or gradients of an iteration that are not finite; None if all are.

    All ranks must call it. Rank 0 names the samples of all ranks, the others only their own.

    Args:
        report: the iteration's report.
        batch: this rank's samples.
        scaled: whether the loss is scaled for float16, where infinite gradients are expected.
        iteration: number of the iteration, from 0.
    """
    bad = report.bad_losses()
    if not bad and (scaled or report.has_finite_gradients()):
        return None
    # Every rank has the same report, so all of them reach this collective or none does.
    names = comm.gather(sample_names(batch))
    if not names:  # gather returns [] on ranks other than 0
        names = [[] for _ in report.grad_norms]
        names[comm.get_rank()] = sample_names(batch)
    if not bad:
        samples = ", ".join(name for rank_names in names for name in rank_names)
        return (
            f"the gradient norm is {max(report.grad_norms)} at iteration {iteration}; the losses "
            f"are finite, so look for an operation with an infinite derivative. Samples: {samples}"
        )
    texts = []
    for rank, losses in bad.items():
        terms = " and ".join(f"{name} is {value}" for name, value in losses.items())
        all_losses = {name: values[rank] for name, values in report.losses.items()}
        samples = ", ".join(names[rank]) or "named in the log of rank 0"
        texts.append(
            f"{terms} at iteration {iteration} on rank {rank}. Samples there: {samples}. "
            f"All losses there: {all_losses}"
        )
    return "; ".join(texts)
