"""Multi-scale foreground enhancement, MSFE (FSD-BEV, arXiv:2407.10135, section 3.4).

Shapes: V images (samples x cameras), C channels, K classes, (H, W) image size,
(h, w) = (H, W) / 16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsdbev.structures import ClassSet

from .blocks import heatmap_head
from .depth_labels import DepthLabels
from .image_features import ImageFeatures
from .precision import full_precision
from .registry import PART_REGISTRY


@PART_REGISTRY.register()
class MSFE(nn.Module):
    """Predicts class heatmaps on F4 and adds foreground-weighted F4 and F8 to F16.

    See docs/model.md, "Multi-scale foreground enhancement".

    Args:
        in_channels: C, channels of the pyramid's maps.
        classes: the K classes of the heatmaps.
        threshold: foreground probabilities at or below it are set to zero.
    """

    #: Layers whose weights depend on the classes.
    class_layers = ("heatmap_head",)

    def __init__(self, *, in_channels: int, classes: ClassSet, threshold: float = 0.1) -> None:
        super().__init__()
        self.classes = classes
        self.threshold = threshold
        self.heatmap_head = heatmap_head(in_channels, len(classes))

    def forward(self, pyramid: Sequence[Tensor]) -> ImageFeatures:
        """Computes image features at stride 16.

        Args:
            pyramid: [F4, F8, F16], each (V, C, H / stride, W / stride).

        Returns:
            ``features`` (V, C, h, w), ``foreground`` (V, h, w) and heatmap ``logits``
            (V, K, H / 4, W / 4).
        """
        f4, f8, f16 = pyramid
        logits = self.predict_heatmaps(f4)
        # The sigmoid is monotonic: after the maximum it gives the same scores for 1 / K the work.
        s4 = F.threshold(logits.amax(dim=1, keepdim=True).sigmoid(), self.threshold, 0.0)
        s8 = F.max_pool2d(s4, 2)
        s16 = F.max_pool2d(s8, 2)
        # The scores are float32; cast back so that the pyramid stays in the precision of autocast.
        features = f16 + _resize(s4.to(f4) * f4, f16) + _resize(s8.to(f8) * f8, f16)
        return ImageFeatures(features=features, foreground=s16.squeeze(1), logits=logits)

    # In float32, since probabilities are compared with the threshold here and again in the view
    # transform: rounded ones would move points in and out of the mask.
    @full_precision
    def predict_heatmaps(self, f4: Tensor) -> Tensor:
        """Computes (V, K, H / 4, W / 4) float32 heatmap logits from (V, C, H / 4, W / 4) F4."""
        return self.heatmap_head(f4)

    def loss(self, image: ImageFeatures, gt_heatmap: Tensor, labels: DepthLabels) -> Tensor:
        """Computes ``loss_foreground`` against elliptical heatmaps of the 2D boxes.

        Args:
            image: features of the key frame with ``logits``.
            gt_heatmap: (V, K, H / 4, W / 4) target heatmap.
            labels: not used; the argument is part of the interface shared with
                ``ForegroundBranch``.
        """
        return heatmap_loss(image.logits, gt_heatmap)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


@full_precision
def heatmap_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Computes the soft focal loss of image heatmaps, summed over the batch.

    Cells with a target g > 0 are positive with weight g^2, all others negative. The sum is divided
    by the sum of g^2, unless there is no object (docs/model.md, "Multi-scale foreground
    enhancement").

    Args:
        logits: (V, K, H', W').
        target: (V, K, H', W') heatmap in 0..1; also (V, H', W') for both.
    """
    # Losses run in float32: 1 - 1e-4 rounds to 1 in bfloat16 and float16, and log(1 - p) to -inf.
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    target = target.to(logits)
    squared = target.square()
    positive = (p.log() * (1 - p).square() * squared).sum()
    negative = ((1 - p).log() * p.square() * (target == 0)).sum()
    norm = squared.sum()
    # torch.where keeps the choice on the device. It computes both branches, so the clamp keeps the
    # division by zero, whose gradient is NaN, out of the first one.
    return torch.where(norm > 0, -(positive + negative) / norm.clamp(min=1e-12), -negative)
