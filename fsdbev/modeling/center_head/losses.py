"""Losses of the center head, in float32.

Letters: B batch, K classes of a task, P boxes of a task over the batch, Y, X BEV cells, R = 10
regression channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from fsdbev.d2.utils import comm

from ..precision import full_precision
from .targets import REGRESSION, TaskTargets

#: The loss each regression branch ends in.
LOSS_NAMES = {"reg": "xy", "height": "z", "dim": "dim", "rot": "yaw", "vel": "vel"}


@full_precision
def center_losses(
    predictions: Sequence[dict[str, Tensor]], targets: Sequence[TaskTargets], *, box_weight: float
) -> dict[str, Tensor]:
    """Weighted losses ``task{i}.loss_{heatmap,xy,z,dim,yaw,vel}`` (SPEC section 8).

    Heatmap: Gaussian focal loss over max(1, peaks). Boxes: L1 at the center cells times
    ``box_weight`` over max(1e-4, boxes) + 1e-4; NaN targets do not count. Numbers of peaks and
    boxes are averaged over ranks.
    """
    peaks, boxes = _counts(targets)
    losses = {}
    for i, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        focal = gaussian_focal_loss(prediction["heatmap"], target.heatmap)
        losses[f"task{i}.loss_heatmap"] = focal / peaks[i].clamp(min=1)
        error = regression_error(prediction, target)
        weight = box_weight / (boxes[i].clamp(min=1e-4) + 1e-4)
        for branch, part in zip(REGRESSION, error.split(list(REGRESSION.values())), strict=True):
            losses[f"task{i}.loss_{LOSS_NAMES[branch]}"] = weight * part.sum()
    return losses


def gaussian_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Sum of the focal loss of (B, K, Y, X) logits against Gaussian heatmaps (CornerNet,
    equation 1, alpha 2, gamma 4).

    The logarithm needs no epsilon: the published 1e-12 vanishes in float32 beside the clamp.
    """
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    at_peak = (1 - p).square() * p.log()
    elsewhere = (1 - target).pow(4) * p.square() * (1 - p).log()
    return -torch.where(target == 1, at_peak, elsewhere).sum()


def regression_error(prediction: dict[str, Tensor], target: TaskTargets) -> Tensor:
    """(R,) sums over the boxes of the absolute errors at their center cells."""
    at_center = [
        prediction[branch].flatten(2)[target.sample, :, target.cell] for branch in REGRESSION
    ]
    predicted = torch.cat(at_center, dim=-1)
    known = ~target.regression.isnan()
    return (predicted - torch.where(known, target.regression, predicted)).abs().sum(dim=0)


def _counts(targets: Sequence[TaskTargets]) -> tuple[Tensor, Tensor]:
    """Numbers of peaks and of boxes of every task, averaged over ranks."""
    peaks = torch.stack([(t.heatmap == 1).sum() for t in targets]).float()
    counts = torch.stack([peaks, peaks.new_tensor([len(t.cell) for t in targets])])
    if comm.get_world_size() > 1:
        dist.all_reduce(counts)
        counts = counts / comm.get_world_size()
    return counts[0], counts[1]
