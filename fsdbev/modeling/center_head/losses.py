"""Losses of the center head, in float32.

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

#: The loss each regression branch ends in.
LOSS_NAMES = {"reg": "xy", "height": "z", "dim": "dim", "rot": "yaw", "vel": "vel"}


@full_precision
def center_losses(
    predictions: Sequence[dict[str, Tensor]],
    targets: CenterTargets,
    *,
    box_weight: float,
    velocity_weight: float = 1.0,
) -> dict[str, Tensor]:
    """Weighted losses ``task{i}.loss_{heatmap,xy,z,dim,yaw,vel}`` (SPEC section 8).

    Heatmap: Gaussian focal loss over max(1, peaks). Boxes: L1 at the center cells times
    ``box_weight`` over max(1e-4, boxes) + 1e-4; NaN targets do not count. Numbers of peaks and
    boxes are averaged over ranks. The velocity's loss is times ``velocity_weight`` too.

    Args:
        predictions: maps of each task, (S B, channels, Y, X): B samples S times, all held against
            the same targets.
        targets: of B samples.
    """
    batch = len(targets.heatmaps[0])
    stacked = [
        {name: maps.unflatten(0, (-1, batch)) for name, maps in prediction.items()}
        for prediction in predictions
    ]
    peaks, boxes = _counts(targets, len(stacked[0]["heatmap"]))
    losses = {}
    for i, (prediction, heatmap) in enumerate(zip(stacked, targets.heatmaps, strict=True)):
        focal = gaussian_focal_loss(prediction["heatmap"], heatmap)
        losses[f"task{i}.loss_heatmap"] = focal / peaks[i].clamp(min=1)
        error = regression_error(prediction, targets, i)
        weight = box_weight / (boxes[i].clamp(min=1e-4) + 1e-4)
        for branch, part in zip(REGRESSION, error.split(list(REGRESSION.values())), strict=True):
            of_branch = weight * velocity_weight if branch == "vel" else weight
            losses[f"task{i}.loss_{LOSS_NAMES[branch]}"] = of_branch * part.sum()
    return losses


def gaussian_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Sum of the focal loss of (S, B, K, Y, X) logits against (B, K, Y, X) Gaussian heatmaps
    (CornerNet, equation 1, alpha 2, gamma 4).

    The logarithm needs no epsilon: the published 1e-12 vanishes in float32 beside the clamp.
    """
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    at_peak = (1 - p).square() * p.log()
    elsewhere = (1 - target).pow(4) * p.square() * (1 - p).log()
    return -torch.where(target == 1, at_peak, elsewhere).sum()


def regression_error(prediction: dict[str, Tensor], targets: CenterTargets, task: int) -> Tensor:
    """(R,) sums over the boxes of ``task`` of the absolute errors of (S, B, channels, Y, X) maps at
    their center cells."""
    at_center = [
        prediction[branch].flatten(3)[:, targets.sample, :, targets.cell] for branch in REGRESSION
    ]
    predicted = torch.cat(at_center, dim=-1)  # (P, S, R)
    counts = (targets.task == task)[:, None] & ~targets.regression.isnan()
    error = predicted - targets.regression[:, None]
    return torch.where(counts[:, None], error, 0).abs().sum(dim=(0, 1))


def _counts(targets: CenterTargets, stacked: int) -> Tensor:
    """(2, T) numbers of peaks and of boxes of every task in S stacked predictions, averaged over
    ranks."""
    peaks = torch.stack([(heatmap == 1).sum() for heatmap in targets.heatmaps])
    tasks = torch.arange(len(peaks), device=peaks.device)
    boxes = (targets.task[:, None] == tasks).sum(dim=0)
    counts = stacked * torch.stack([peaks, boxes]).float()
    if comm.get_world_size() > 1:
        dist.all_reduce(counts)
        counts = counts / comm.get_world_size()
    return counts
