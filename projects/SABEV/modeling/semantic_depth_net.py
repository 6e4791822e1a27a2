"""Camera-aware depth network with foreground segmentation (SA-BEV, arXiv:2307.11477, 3.2).

Shapes: V images (the cameras of all samples), C context channels, D depth bins,
(h, w) = (H, W) / 16.
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
    """DepthNet that also segments the foreground, with two more channels in the last convolution.

    Runs in float32.

    Args:
        mid_channels: hidden channels.
        depth_bins: the depth bins; the network predicts a probability for each.
        arguments: the other arguments of ``DepthNet``.
    """

    #: Index of the backbone map that ``embed`` also takes: none.
    fine_level = None

    def __init__(self, *, mid_channels: int = 512, depth_bins: DepthBins, **arguments: Any) -> None:
        super().__init__(mid_channels=mid_channels, depth_bins=depth_bins, **arguments)
        self.num_bins = depth_bins.count
        # One convolution for both outputs, since the release's weights have D + 2 channels here.
        self.depth_conv = nn.Conv2d(mid_channels, self.num_bins + 2, 1)

    @full_precision
    def forward(self, embedded: Tensor, camera_vector: Tensor) -> SemanticDepth:
        """Predicts depth, semantics and context.

        Args:
            embedded: (V, mid_channels, h, w), the output of ``embed``.
            camera_vector: (V, 27) camera vectors of the key frame.

        Returns:
            Float32 logits at one scale, and context.
        """
        features, context = self.branches(embedded, camera_vector)
        depth, semantic = self.depth_conv(features).tensor_split([self.num_bins], dim=1)
        return SemanticDepth(scales=(TaskLogits(depth, semantic),), context=context)
