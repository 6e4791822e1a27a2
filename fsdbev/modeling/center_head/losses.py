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

from .targets import REGRESSION, CenterTargets

#: Regression branch -> name of its loss.
LOSS_NAMES = {"reg": "xy", "height": "z", "dim": "dim", "rot": "yaw", "vel": "vel"}


@full_precision
def center_losses(
    predictions: Sequence[dict[str, Tensor]],
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
        predictions: maps of each task, (S B, channels, Y, X): S predictions of the B samples, which
            share the targets.
        targets: targets of the B samples.
        box_weight: weight of the box losses.
        velocity_weight: additional weight of the velocity loss.
    """
    batch = len(targets.heatmaps[0])
    stacked = [
        {name: maps.unflatten(0, (-1, batch)) for name, maps in prediction.items()}
        for prediction in predictions
    ]
    maps = stacked[0]["heatmap"]
    peaks, boxes = _count_peaks_and_boxes(targets, len(maps), maps.dtype)
    losses = {}
    for i, (prediction, heatmap) in enumerate(zip(stacked, targets.heatmaps, strict=True)):
        focal = gaussian_focal_loss(prediction["heatmap"], heatmap)
        losses[f"task{i}.loss_heatmap"] = focal / peaks[i].clamp(min=1)
        error = regression_error(prediction, targets, i)
        weight = box_weight / (boxes[i].clamp(min=1e-4) + 1e-4)
        for branch, part in zip(REGRESSION, error.split(list(REGRESSION.values())), strict=True):
            branch_weight = weight * velocity_weight if branch == "vel" else weight
            losses[f"task{i}.loss_{LOSS_NAMES[branch]}"] = branch_weight * part.sum()
    return losses


def gaussian_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Computes the sum of the Gaussian focal loss (CornerNet, arXiv:1808.01244, equation 1).

    Args:
        logits: (S, B, K, Y, X).
        target: (B, K, Y, X) heatmaps, 1 at centers. alpha is 2, the exponent of (1 - target) 4.
    """
    # The release adds 1e-12 in the logarithms. In float32 this changes no value of 1e-4 or more.
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    target = target.to(logits)
    at_peak = (1 - p).square() * p.log()
    elsewhere = (1 - target).pow(4) * p.square() * (1 - p).log()
    return -torch.where(target == 1, at_peak, elsewhere).sum()


def regression_error(prediction: dict[str, Tensor], targets: CenterTargets, task: int) -> Tensor:
    """Sums absolute errors at the center cells over the boxes of a task.

    Args:
        prediction: maps (S, B, channels, Y, X) of the task by name of the branch.
        targets: targets of the batch.
        task: index of the task.

    Returns:
        (R,) sums over boxes and stacked predictions.
    """
    at_center = [
        prediction[branch].flatten(3)[:, targets.sample, :, targets.cell] for branch in REGRESSION
    ]
    predicted = torch.cat(at_center, dim=-1)  # (P, S, R)
    valid = (targets.task == task)[:, None] & ~targets.regression.isnan()
    error = predicted - targets.regression[:, None]
    # torch.where, since NaN * 0 is NaN. A mask instead of indexing keeps sizes on the device.
    return torch.where(valid[:, None], error, 0).abs().sum(dim=(0, 1))


def _count_peaks_and_boxes(targets: CenterTargets, stacked: int, dtype: torch.dtype) -> Tensor:
    """Counts peaks and boxes per task, times S = ``stacked``: (2, T), averaged over ranks."""
    # The comparison is exact: a Gaussian is exp(0) = 1 at its center cell and less elsewhere.
    peaks = torch.stack([(heatmap == 1).sum() for heatmap in targets.heatmaps])
    tasks = torch.arange(len(peaks), device=peaks.device)
    boxes = (targets.task[:, None] == tasks).sum(dim=0)
    counts = stacked * torch.stack([peaks, boxes]).to(dtype)
    # DDP averages gradients over ranks, so only a divisor that all ranks share weights every box of
    # the global batch equally.
    if comm.get_world_size() > 1:
        dist.all_reduce(counts)
        counts = counts / comm.get_world_size()
    return counts
