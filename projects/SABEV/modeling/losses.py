"""Losses of depth and semantics, at every scale that predicts them (SA-BEV, sections 3.2, 3.4).

Shapes: V images, D depth bins, (h, w) map of the finest scale.
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
    """Focal loss of the true class, a mean over the cells that have a depth label.

    There is no weight alpha of the foreground: the focal loss of a two-way softmax counts each cell
    once in the foreground's channel and once, with equal value, in the background's, where alpha
    and 1 - alpha stand the other way round; in sum they are 1.

    Args:
        logits: (V, 2, h, w) of background and foreground.
        gamma: how little cells count that are right already.
    """
    target = labels.foreground.long()[:, None]
    log_prob = logits.log_softmax(dim=1).gather(1, target).squeeze(1)
    loss = -log_prob * (1 - log_prob.exp()) ** gamma
    return (loss * labels.known).sum() / labels.known.sum().clamp(min=1)


def task_losses(scales: Sequence[TaskLogits], labels: DepthLabels) -> tuple[Tensor, Tensor]:
    """Loss of depth and of semantics, each a mean over the scales.

    Args:
        scales: their logits are brought to the labels' size before the softmax.
        labels: of the (V, h, w) cells of the finest scale.

    Raises:
        ValueError: the labels are of another size than the finest scale.
    """
    size = labels.known.shape[-2:]
    if scales[-1].depth.shape[-2:] != size:
        raise ValueError(
            f"labels of {tuple(size)} cells don't fit depth of {tuple(scales[-1].depth.shape[-2:])}"
            " cells: model.stride must be the stride of the depth network's finest map"
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
