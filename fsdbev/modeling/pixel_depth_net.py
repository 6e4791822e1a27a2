"""Depth and context from one 1x1 convolution, as in Lift, Splat, Shoot (section 3.1).

Shapes: V images, C context channels, D depth bins, (h, w) = (H, W) / 16.
"""

from __future__ import annotations

from torch import Tensor, nn

from fsdbev.structures import DepthBins

from .precision import full_precision
from .registry import PART_REGISTRY


@PART_REGISTRY.register()
class PixelDepthNet(nn.Module):
    """Each pixel's depth distribution and context from its own features, knowing no camera. Runs in
    float32.

    Args:
        in_channels: of the image features.
        context_channels: C.
        depth_bins: D comes from here.
    """

    #: Layers that ``embed`` runs: all.
    image_layers = ("conv",)

    def __init__(self, *, in_channels: int, context_channels: int, depth_bins: DepthBins) -> None:
        super().__init__()
        self.num_bins = depth_bins.count
        self.conv = nn.Conv2d(in_channels, self.num_bins + context_channels, 1)

    @full_precision
    def embed(self, features: Tensor) -> Tensor:
        """(V, in_channels, h, w) -> (V, D + C, h, w) float32: what ``forward`` takes."""
        return self.conv(features)

    @full_precision
    def forward(self, embedded: Tensor, camera_vector: Tensor) -> tuple[Tensor, Tensor]:
        """(V, D + C, h, w) of ``embed``; the camera vector is not looked at.

        Returns:
            (V, D, h, w) depth probability, (V, C, h, w) context; float32.
        """
        depth, context = embedded.tensor_split([self.num_bins], dim=1)
        return depth.softmax(dim=1), context
