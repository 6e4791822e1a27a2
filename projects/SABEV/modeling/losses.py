"""Losses of depth and semantics at one or two scales (SA-BEV, arXiv:2307.11477, 3.2 and 3.4).

Shapes: V images, D depth bins, (h, w) size of the finest map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fsdbev.modeling.depth_labels import DepthLabels, depth_loss
from fsdbev.modeling.precision import full_precision

from .predictions import TaskLogits


@full_precision
def semantic_loss(logits: Tensor, labels: DepthLabels, *, gamma: float = 2.0) -> Tensor:
    """Computes the focal loss of foreground segmentation, averaged over cells with a depth label.

    Args:
        logits: (V, 2, h, w) logits of background and foreground.
        labels: labels of the same cells.
        gamma: focusing parameter; larger values give well-classified cells less weight.
    """
    # The release's foreground weight alpha is left out, since it has no effect: with a two-way
    # softmax both channels of a cell have the same loss, weighted with alpha and 1 - alpha.
    target = labels.foreground.long()[:, None]
    log_prob = logits.log_softmax(dim=1).gather(1, target).squeeze(1)
    # From log_softmax, which stays finite for saturated logits.
    loss = -log_prob * (1 - log_prob.exp()) ** gamma
    return (loss * labels.known).sum() / labels.known.sum().clamp(min=1)


def task_losses(scales: Sequence[TaskLogits], labels: DepthLabels) -> tuple[Tensor, Tensor]:
    """Computes the losses of depth and of semantics, each averaged over the scales.

    Args:
        scales: logits per scale, coarse to fine; upsampled to the labels' size before the softmax.
        labels: labels of the (V, h, w) cells of the finest scale.

    Raises:
        ValueError: the labels do not have the size of the finest scale.
    """
    size = labels.known.shape[-2:]
    if scales[-1].depth.shape[-2:] != size:
        raise ValueError(
            f"labels of {tuple(size)} cells don't fit depth of {tuple(scales[-1].depth.shape[-2:])}"
            " cells; set model.stride to the stride of the depth network's finest map"
        )
    depth, semantic = [], []
    for logits in scales:
        depth_prob = _resize(logits.depth, size).softmax(dim=1)
        depth.append(depth_loss(depth_prob, labels))
        semantic.append(semantic_loss(_resize(logits.semantic, size), labels))
    return torch.stack(depth).mean(), torch.stack(semantic).mean()


def _resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear")
