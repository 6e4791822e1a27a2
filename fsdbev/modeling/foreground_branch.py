"""Foreground branch at a single scale, the replacement of MSFE in the paper's ablation.

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
    """Predicts a binary foreground mask from F16 and leaves F16 unchanged.

    Args:
        in_channels: C, channels of the pyramid's maps.
    """

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.mask_head = heatmap_head(in_channels, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> ImageFeatures:
        """Computes image features at stride 16.

        Args:
            pyramid: maps of the neck, F16 last.

        Returns:
            ``features`` (V, C, h, w), ``foreground`` (V, h, w) and its ``logits`` (V, h, w).
        """
        f16 = pyramid[-1]
        logits = self.predict_mask(f16)
        return ImageFeatures(features=f16, foreground=logits.sigmoid(), logits=logits)

    # In float32, since the view transform compares the probabilities with a threshold.
    @full_precision
    def predict_mask(self, f16: Tensor) -> Tensor:
        """Computes (V, h, w) float32 foreground logits from (V, C, h, w) features."""
        return self.mask_head(f16).squeeze(1)

    def loss(self, image: ImageFeatures, gt_heatmap: Tensor, labels: DepthLabels) -> Tensor:
        """Computes ``loss_foreground`` against the foreground labels of the cells.

        Args:
            image: features of the key frame with ``logits``.
            gt_heatmap: not used; the argument is part of the interface shared with ``MSFE``.
            labels: labels of the key frame.
        """
        return heatmap_loss(image.logits, labels.foreground)
