"""What the depth networks of SA-BEV say about a frame's views.

Shapes: V images, C context channels, D depth bins, (h, w) map of the finest scale.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TaskLogits:
    """Both tasks' logits at one scale.

    Attributes:
        depth: (V, D, h', w').
        semantic: (V, 2, h', w') of background and foreground.
    """

    depth: Tensor
    semantic: Tensor


@dataclass(frozen=True)
class SemanticDepth:
    """Depth, semantics and context of one frame.

    Attributes:
        scales: coarse to fine; all are learnt from, the last one is pooled by.
        context: (V, C, h, w).
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
