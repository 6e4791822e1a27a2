"""Depth and context from one 1x1 convolution (Lift, Splat, Shoot, arXiv:2008.05711, section 3.1).

Shapes: V images, C context channels, D depth bins, (h, w) = (H, W) / 16.
"""

from __future__ import annotations

from torch import Tensor, nn

from fsdbev.structures import DepthBins

from .precision import full_precision
from .registry import PART_REGISTRY


@PART_REGISTRY.register()
class PixelDepthNet(nn.Module):
    """Predicts depth distribution and context per pixel, without camera parameters.

    Runs in float32, as ``DepthNet`` does.

    Args:
        in_channels: channels of the image features.
        context_channels: C.
        depth_bins: the depth bins; the network predicts a probability for each.
    """

    #: Names of the layers that ``embed`` runs.
    image_layers = ("conv",)

    def __init__(self, *, in_channels: int, context_channels: int, depth_bins: DepthBins) -> None:
        super().__init__()
        self.num_bins = depth_bins.count
        self.conv = nn.Conv2d(in_channels, self.num_bins + context_channels, 1)

    @full_precision
    def embed(self, features: Tensor) -> Tensor:
        """Computes (V, D + C, h, w) float32, the input of ``forward``.

        Args:
            features: (V, in_channels, h, w) image features.
        """
        return self.conv(features)

    @full_precision
    def forward(self, embedded: Tensor, camera_vector: Tensor) -> tuple[Tensor, Tensor]:
        """Splits the embedding into depth and context.

        Args:
            embedded: (V, D + C, h, w), the output of ``embed``.
            camera_vector: not used; the argument is part of the interface shared with ``DepthNet``.

        Returns:
            (V, D, h, w) depth probability and (V, C, h, w) context, float32.
        """
        depth, context = embedded.tensor_split([self.num_bins], dim=1)
        return depth.softmax(dim=1), context
