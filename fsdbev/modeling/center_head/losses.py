"""Losses of the center head (docs/model.md, "Head, targets, decoding"). They run in float32.

Shapes: S stacked predictions (student, teacher), B batch, T tasks, K classes of a task, P boxes of
the batch, Y, X BEV cells, R = 10 regression channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from fsdbev.d2.utils import comm
from fsdbev.modeling.precision import full_precision

from .regression import TrainingPredictions
from .targets import REGRESSION, CenterTargets

#: Regression branch -> name of its loss.
LOSS_NAMES = {"reg": "xy", "height": "z", "dim": "dim", "rot": "yaw", "vel": "vel"}


def center_losses(
    predictions: Sequence[dict[str, Tensor]] | TrainingPredictions,
    targets: CenterTargets,
    *,
    box_weight: float,
    velocity_weight: float = 1.0,
) -> dict[str, Tensor]:
    """Computes weighted losses ``task{i}.loss_{heatmap,xy,z,dim,yaw,vel}``.

    Heatmap: Gaussian focal loss / max(1, number of peaks). Boxes: ``box_weight`` * L1 at the center
    cells / (max(1e-4, number of boxes) + 1e-4); NaN targets are masked out. Both numbers are
    averaged over ranks.

    Args:
        predictions: maps of each task, (S B, channels, Y, X), or ``TrainingPredictions``: S
            predictions of the B samples, which share the targets.
        targets: targets of the B samples.
        box_weight: weight of the box losses.
        velocity_weight: additional weight of the velocity loss.
    """
    stacked = len(heatmaps_of(predictions)[0]) // len(targets.heatmaps[0])
    focal, peaks = _focal_losses_and_peaks(heatmaps_of(predictions), targets.heatmaps)
    errors = regression_errors(predictions, targets)
    peaks, boxes = _averaged_counts(peaks, targets, stacked)
    losses, channels = {}, list(REGRESSION.values())
    for i, error in enumerate(errors):
        losses[f"task{i}.loss_heatmap"] = focal[i] / peaks[i].clamp(min=1)
        weight = box_weight / (boxes[i].clamp(min=1e-4) + 1e-4)
        for branch, part in zip(REGRESSION, error.split(channels), strict=True):
            branch_weight = weight * velocity_weight if branch == "vel" else weight
            losses[f"task{i}.loss_{LOSS_NAMES[branch]}"] = branch_weight * part.sum()
    return losses


def gaussian_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Computes the Gaussian focal loss (CornerNet, arXiv:1808.01244, equation 1).

    Args:
        logits: (S, B, K, Y, X).
        target: (B, K, Y, X) heatmaps, 1 at centers. alpha is 2, the exponent of (1 - target) 4.

    Returns:
        (K,) sums over predictions, samples and cells.
    """
    # The release adds 1e-12 in the logarithms. In float32 this changes no value of 1e-4 or more.
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    target = target.to(logits)
    at_peak = target == 1
    # Both cases of the equation are weight * (1 - q)^2 * log(q).
    q = torch.where(at_peak, p, 1 - p)
    weight = (1 - target).square().square().masked_fill(at_peak, 1)
    return -(weight * (1 - q).square() * q.log()).sum(dim=(0, 1, 3, 4))


@full_precision
def _focal_losses_and_peaks(
    logits: Sequence[Tensor], heatmaps: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Computes the focal loss of each task and the (T,) numbers of its peaks."""
    # One pass over the maps of all tasks; the sums per class are then added per task.
    target, widths = torch.cat(list(heatmaps), dim=1), [heatmap.shape[1] for heatmap in heatmaps]
    focal = gaussian_focal_loss(torch.cat(logits, dim=1).unflatten(0, (-1, len(target))), target)
    # The comparison is exact: a Gaussian is exp(0) = 1 at its center cell and less elsewhere.
    peaks = (target == 1).sum(dim=(0, 2, 3), dtype=focal.dtype)
    sums = [[task.sum() for task in values.split(widths)] for values in (focal, peaks)]
    return sums[0], torch.stack(sums[1])


def heatmaps_of(predictions: Sequence[dict[str, Tensor]] | TrainingPredictions) -> list[Tensor]:
    """Returns the (S B, K, Y, X) heatmap logits of each task."""
    if isinstance(predictions, TrainingPredictions):
        return list(predictions.heatmaps)
    return [maps["heatmap"] for maps in predictions]


def regression_errors(
    predictions: Sequence[dict[str, Tensor]] | TrainingPredictions, targets: CenterTargets
) -> list[Tensor]:
    """Sums absolute errors at the center cells over the boxes of each task.

    Args:
        predictions: of S B samples, see :func:`center_losses`.
        targets: targets of the B samples.

    Returns:
        (R,) sums over boxes and stacked predictions, per task.
    """
    batch, errors = len(targets.heatmaps[0]), []
    for task in range(len(targets.heatmaps)):
        boxes = targets.of_task(task)
        sample, cell, wanted = (
            values.index_select(0, boxes)
            for values in (targets.sample, targets.cell, targets.regression)
        )
        if isinstance(predictions, TrainingPredictions):
            predicted = predictions.regression[task].at(sample, cell, batch)
        else:
            predicted = _at_centers(predictions[task], sample, cell, batch)
        # torch.where, since NaN * 0 is NaN.
        error = torch.where(wanted.isnan()[:, None], 0, predicted - wanted[:, None])
        errors.append(error.abs().sum(dim=(0, 1)))
    return errors


@full_precision
def _at_centers(maps: dict[str, Tensor], sample: Tensor, cell: Tensor, batch: int) -> Tensor:
    """Reads (P, S, R) values of P boxes from the maps (S B, channels, Y, X) of a task."""
    at_center = [
        maps[branch].unflatten(0, (-1, batch)).flatten(3)[:, sample, :, cell]
        for branch in REGRESSION
    ]
    return torch.cat(at_center, dim=-1)


def _averaged_counts(peaks: Tensor, targets: CenterTargets, stacked: int) -> Tensor:
    """Returns numbers of peaks and boxes per task, times S = ``stacked``: (2, T).

    They are averaged over ranks.
    """
    boxes = torch.tensor([len(targets.of_task(task)) for task in range(len(peaks))])
    counts = stacked * torch.stack([peaks, boxes.to(peaks, non_blocking=True)])
    # DDP averages gradients over ranks, so only a divisor that all ranks share weights every box of
    # the global batch equally.
    if comm.get_world_size() > 1:
        dist.all_reduce(counts)
        counts = counts / comm.get_world_size()
    return counts
