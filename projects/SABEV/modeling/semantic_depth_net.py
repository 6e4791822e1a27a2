"""Camera-aware depth network that segments the foreground too (SA-BEV, section 3.2).

Shapes: V images, C context channels, D depth bins, (h, w) = (H, W) / 16.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fsdbev.modeling.depth_net import DepthNet
from fsdbev.modeling.precision import full_precision
from fsdbev.modeling.registry import PART_REGISTRY
from fsdbev.structures import DepthBins

from .predictions import SemanticDepth, TaskLogits


@PART_REGISTRY.register()
class SemanticDepthNet(DepthNet):
    """DepthNet whose depth branch also says what is foreground, in two more channels of its last
    convolution. Runs in float32.

    Args:
        mid_channels: inside the network.
        depth_bins: D comes from here.
        arguments: the others of ``DepthNet``.
    """

    #: Which of the backbone's maps ``embed`` takes beside the pyramid's: none.
    fine_level = None

    def __init__(self, *, mid_channels: int = 512, depth_bins: DepthBins, **arguments: Any) -> None:
        super().__init__(mid_channels=mid_channels, depth_bins=depth_bins, **arguments)
        self.num_bins = depth_bins.count
        self.depth_conv = nn.Conv2d(mid_channels, self.num_bins + 2, 1)

    @full_precision
    def forward(self, embedded: Tensor, camera_vector: Tensor) -> SemanticDepth:
        """(V, mid_channels, h, w) of ``embed`` and (B, N, 27) camera vector of the key frame ->
        float32 logits at one scale, and context."""
        features, context = self.branches(embedded, camera_vector)
        depth, semantic = self.depth_conv(features).tensor_split([self.num_bins], dim=1)
        return SemanticDepth(scales=(TaskLogits(depth, semantic),), context=context)
