"""What the ranks tell each other of an iteration, and what in it is no number."""

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
    """One iteration on R ranks; the same on every one of them.

    Attributes:
        losses: by name, R values.
        grad_norms: R times the norm of the gradients, which are the same everywhere.
        waits: R times the seconds that the rank waited for its batch.
        replaced: samples, over all ranks, that stand in for one that could not be read.
    """

    losses: dict[str, list[float]]
    grad_norms: list[float]
    waits: list[float]
    replaced: int

    def bad_losses(self) -> dict[int, dict[str, float]]:
        """Rank -> its losses that are not finite, by name; only ranks that have some."""
        bad: dict[int, dict[str, float]] = {}
        for name, per_rank in self.losses.items():
            for rank, value in enumerate(per_rank):
                if not math.isfinite(value):
                    bad.setdefault(rank, {})[name] = value
        return dict(sorted(bad.items()))

    def has_finite_gradients(self) -> bool:
        return all(map(math.isfinite, self.grad_norms))

    def means(self) -> dict[str, float]:
        """Each loss averaged over the ranks."""
        return {name: sum(values) / len(values) for name, values in self.losses.items()}


def exchange(
    losses: dict[str, Tensor], grad_norm: Tensor, *, data_time: float, replaced: int
) -> StepReport:
    """This rank's values to all ranks, theirs to this one: one collective, one wait for the device.

    Args:
        losses: scalars.
        grad_norm: scalar.
        data_time: seconds.
        replaced: samples of this rank.
    """
    values = torch.stack([*(loss.detach().float() for loss in losses.values()), grad_norm])
    own = torch.tensor([data_time, replaced]).to(values, non_blocking=True)
    values = torch.cat([values, own])
    ranks = [torch.empty_like(values) for _ in range(comm.get_world_size())]
    if len(ranks) > 1:
        dist.all_gather(ranks, values)
    else:
        ranks = [values]
    *per_loss, norms, waits, replacements = torch.stack(ranks, dim=1).tolist()
    by_name = dict(zip(losses, per_loss, strict=True))
    return StepReport(by_name, norms, waits, int(sum(replacements)))


def sample_names(batch: Sequence[Any]) -> list[str]:
    """The samples of a batch by token, or by their place where they have none."""
    return [
        str(sample["sample_token"] if "sample_token" in sample else f"number {place}")
        for place, sample in enumerate(batch)
    ]


def describe_problem(
    report: StepReport, batch: Sequence[Any], *, scaled: bool, iteration: int
) -> str | None:
    """What of an iteration is not finite, with the samples it was computed from; None if all is.

    All ranks call it; the first names the samples of every rank, the others their own.

    Args:
        scaled: gradients are scaled for float16, so that infinite ones are nothing unusual.
    """
    bad = report.bad_losses()
    if not bad and (scaled or report.has_finite_gradients()):
        return None
    names = comm.gather(sample_names(batch))
    if not names:  # not the first rank
        names = [[] for _ in report.grad_norms]
        names[comm.get_rank()] = sample_names(batch)
    if not bad:
        samples = ", ".join(name for of_rank in names for name in of_rank)
        return (
            f"the gradient norm is {max(report.grad_norms)} at iteration {iteration}; the losses "
            f"are finite, so look for an operation with an infinite derivative. Samples: {samples}"
        )
    texts = []
    for rank, losses in bad.items():
        terms = " and ".join(f"{name} is {value}" for name, value in losses.items())
        of_rank = {name: values[rank] for name, values in report.losses.items()}
        samples = ", ".join(names[rank]) or "named in the log of rank 0"
        texts.append(
            f"{terms} at iteration {iteration} on rank {rank}. Samples there: {samples}. "
            f"All losses there: {of_rank}"
        )
    return "; ".join(texts)
