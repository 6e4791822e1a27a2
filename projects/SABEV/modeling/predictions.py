"""Outputs of the depth networks of SA-BEV for the views of one frame.

Shapes: V images, C context channels, D depth bins, (h, w) size of the finest map, (h', w') size of
any map.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TaskLogits:
    """Logits of depth and semantics at one scale.

    Attributes:
        depth: (V, D, h', w') logits of the depth bins.
        semantic: (V, 2, h', w') logits of background and foreground.
    """

    depth: Tensor
    semantic: Tensor


@dataclass(frozen=True)
class SemanticDepth:
    """Depth, semantics and context of one frame.

    Attributes:
        scales: logits per scale, coarse to fine. All are supervised; the last one weights the
            pooling.
        context: (V, C, h, w) context features.
    """

    scales: tuple[TaskLogits, ...]
    context: Tensor

    @property
    def depth_prob(self) -> Tensor:
        """(V, D, h, w) depth probability of the finest scale."""
        return self.scales[-1].depth.softmax(dim=1)

    @property
    def foreground(self) -> Tensor:
        """(V, h, w) foreground probability of the finest scale."""
        return self.scales[-1].semantic.softmax(dim=1)[:, 1]
