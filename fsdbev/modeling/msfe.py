"""Multi-scale foreground enhancement (FSD-BEV, section 3.4; SPEC section 4).

Shapes: V images (samples x cameras), C channels, K classes, (H, W) image size,
(h, w) = (H, W) / 16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsdbev.structures import CLASS_NAMES

from .blocks import heatmap_head
from .depth_labels import DepthLabels
from .image_features import ImageFeatures
from .precision import full_precision
from .registry import PART_REGISTRY


@PART_REGISTRY.register()
class MSFE(nn.Module):
    """Predicts class heatmaps on F4 and adds the foreground of F4 and F8 to F16.

    Args:
        in_channels: C of the pyramid's maps.
        num_classes: K.
        threshold: foreground probabilities at or below it count as zero.
    """

    def __init__(
        self, *, in_channels: int, num_classes: int = len(CLASS_NAMES), threshold: float = 0.1
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.heatmap_head = heatmap_head(in_channels, num_classes)

    def forward(self, pyramid: Sequence[Tensor]) -> ImageFeatures:
        """[F4, F8, F16] -> features at stride 16; ``logits`` are (V, K, H / 4, W / 4) heatmaps."""
        f4, f8, f16 = pyramid
        logits = self.predict_heatmaps(f4)
        s4 = F.threshold(logits.amax(dim=1, keepdim=True).sigmoid(), self.threshold, 0.0)
        s8 = F.max_pool2d(s4, 2)
        s16 = F.max_pool2d(s8, 2)
        features = f16 + _resize(s4.to(f4) * f4, f16) + _resize(s8.to(f8) * f8, f16)
        return ImageFeatures(features=features, foreground=s16.squeeze(1), logits=logits)

    @full_precision
    def predict_heatmaps(self, f4: Tensor) -> Tensor:
        """(V, C, H / 4, W / 4) -> (V, K, H / 4, W / 4) float32 logits."""
        return self.heatmap_head(f4)

    def loss(self, image: ImageFeatures, gt_heatmap: Tensor, labels: DepthLabels) -> Tensor:
        """``loss_foreground`` against the (V, K, H / 4, W / 4) ``gt_heatmap`` alone."""
        return heatmap_loss(image.logits, gt_heatmap)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


@full_precision
def heatmap_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Soft focal loss of image heatmaps, summed over the batch.

    Cells with any target count as positive in proportion to its square; the sum of squares
    normalises, unless there is no object at all.

    Args:
        logits, target: (V, K, H', W').
    """
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    squared = target.square()
    positive = (p.log() * (1 - p).square() * squared).sum()
    negative = ((1 - p).log() * p.square() * (target == 0)).sum()
    norm = squared.sum()
    return torch.where(norm > 0, -(positive + negative) / norm.clamp(min=1e-12), -negative)
