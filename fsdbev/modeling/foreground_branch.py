"""A plain foreground branch at one scale: what takes the place of MSFE in the paper's ablation.

Shapes: V images, C channels, (h, w) = (H, W) / 16.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .blocks import heatmap_head
from .depth_labels import DepthLabels
from .image_features import ImageFeatures
from .msfe import heatmap_loss
from .precision import full_precision
from .registry import PART_REGISTRY


@PART_REGISTRY.register()
class ForegroundBranch(nn.Module):
    """F16 alone feeds the depth network; a binary branch on it gives the foreground mask.

    Args:
        in_channels: C of the pyramid's maps.
    """

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.mask_head = heatmap_head(in_channels, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> ImageFeatures:
        """[F4, F8, F16] -> features at stride 16; ``logits`` are (V, h, w) of the foreground."""
        f16 = pyramid[-1]
        logits = self.predict_mask(f16)
        return ImageFeatures(features=f16, foreground=logits.sigmoid(), logits=logits)

    @full_precision
    def predict_mask(self, f16: Tensor) -> Tensor:
        """(V, C, h, w) -> (V, h, w) float32 logits."""
        return self.mask_head(f16).squeeze(1)

    def loss(self, image: ImageFeatures, gt_heatmap: Tensor, labels: DepthLabels) -> Tensor:
        """``loss_foreground`` against the label foreground of the cells alone."""
        return heatmap_loss(image.logits, labels.foreground.float())
