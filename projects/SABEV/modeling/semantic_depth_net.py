"""Camera-aware depth network that segments the foreground too (SA-BEV, section 3.2).

Letters: V images, C context channels, D depth bins, (h, w) = (H, W) / 16.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fsdbev.modeling.depth_net import DepthNet
from fsdbev.modeling.precision import full_precision
from fsdbev.modeling.registry import PART_REGISTRY

from .predictions import SemanticDepth, TaskLogits


@PART_REGISTRY.register()
class SemanticDepthNet(DepthNet):
    """DepthNet whose depth branch also says what is foreground. Runs in float32.

    Args:
        mid_channels: inside the network.
        arguments: the others of ``DepthNet``.
    """

    #: Which of the backbone's maps ``embed`` takes beside the pyramid's: none.
    fine_level = None

    def __init__(self, *, mid_channels: int = 512, **arguments: Any) -> None:
        super().__init__(mid_channels=mid_channels, **arguments)
        self.semantic_conv = nn.Conv2d(mid_channels, 2, 1)

    @full_precision
    def forward(self, embedded: Tensor, camera_vector: Tensor) -> SemanticDepth:
        """(V, mid_channels, h, w) of ``embed`` and (B, N, 27) camera vector of the key frame ->
        float32 logits at one scale, and context."""
        depth, context = self.branches(embedded, camera_vector)
        logits = TaskLogits(depth=self.depth_conv(depth), semantic=self.semantic_conv(depth))
        return SemanticDepth(scales=(logits,), context=context)
