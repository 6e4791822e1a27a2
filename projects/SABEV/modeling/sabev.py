"""SABEV: the meta-architecture that pools what is foreground by its own account.

Shapes: B samples, N cameras, V = B N views, C context channels, D depth bins, (H, W) image size,
(h, w) = (H, W) / stride.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fsdbev.d2.modeling import META_ARCH_REGISTRY
from fsdbev.modeling import FrameFeatures, ImageFeatures, LiftSplatDetector
from fsdbev.modeling.depth_labels import DepthLabels

from .losses import task_losses
from .predictions import TaskLogits


@dataclass(frozen=True)
class TwoScaleFeatures(ImageFeatures):
    """``ImageFeatures`` for a depth network that may look at a finer scale too.

    Attributes:
        fine: (V, C', 2 h', 2 w') where ``features`` are (V, C, h', w'); None without a finer scale.
    """

    fine: Tensor | None = None


@dataclass(frozen=True)
class SemanticFrame(FrameFeatures):
    """``FrameFeatures`` with what the losses are taken on.

    Attributes:
        scales: logits of depth and semantics, coarse to fine.
    """

    scales: tuple[TaskLogits, ...]


@META_ARCH_REGISTRY.register()
class SABEV(LiftSplatDetector):
    """Multi-view 3D detection with semantic-aware BEV pooling (arXiv 2307.11477).

    The depth network also says what is foreground, and the view transform leaves out the rest.
    Takes, and gives in evaluation, what ``LiftSplatDetector`` does; for training it needs
    ``gt_depth`` and ``gt_foreground`` too, and returns ``loss_depth`` and ``loss_semantic`` beside
    the head's ``task{i}.loss_*``.

    Args:
        depth_net: SemanticDepthNet or CrossTaskHead, or another that gives a SemanticDepth and says
            in ``fine_level`` which of the backbone's maps it takes beside the pyramid's.
        depth_loss_weight, semantic_loss_weight: of those losses.
        parts: the other arguments of ``LiftSplatDetector``. There is no use for ``msfe``.

    Raises:
        ValueError: the depth network does not segment the foreground.
    """

    def __init__(
        self,
        *,
        depth_net: nn.Module,
        depth_loss_weight: float = 3.0,
        semantic_loss_weight: float = 25.0,
        **parts: Any,
    ) -> None:
        super().__init__(depth_net=depth_net, **parts)
        if not hasattr(depth_net, "fine_level"):
            raise ValueError(
                "SABEV needs a depth network that segments the foreground, SemanticDepthNet or "
                f"CrossTaskHead, got {type(depth_net).__name__}"
            )
        self.depth_loss_weight = depth_loss_weight
        self.semantic_loss_weight = semantic_loss_weight

    def extract_image_features(self, images: Tensor) -> TwoScaleFeatures:
        maps = self.backbone(self.normalise(images))
        features = self.neck(maps)[-1]
        level = self.depth_net.fine_level
        if level is None:
            return TwoScaleFeatures(self.depth_net.embed(features))
        features, fine = self.depth_net.embed(features, maps[level])
        return TwoScaleFeatures(features, fine=fine)

    def predict_depth(self, image: TwoScaleFeatures, camera_vector: Tensor) -> SemanticFrame:
        """As of ``LiftSplatDetector``; what is foreground, the depth network says."""
        scales = [image.features] if image.fine is None else [image.features, image.fine]
        prediction = self.depth_net(*scales, camera_vector)
        return SemanticFrame(
            image=image,
            depth_prob=prediction.depth_prob,
            context=prediction.context,
            foreground=prediction.foreground,
            scales=prediction.scales,
        )

    def make_labels(self, batched_inputs: list[dict]) -> list[DepthLabels | None]:
        """Of the key frame alone: nothing else is learnt from."""
        return [self.downsample_labels(batched_inputs, 0)] + [None] * (self.num_frames - 1)

    def image_losses(
        self, key_frame: SemanticFrame, labels: DepthLabels, batched_inputs: list[dict]
    ) -> dict[str, Tensor]:
        """Losses of depth and semantics, on the key frame."""
        depth, semantic = task_losses(key_frame.scales, labels)
        return {
            "loss_depth": self.depth_loss_weight * depth,
            "loss_semantic": self.semantic_loss_weight * semantic,
        }
