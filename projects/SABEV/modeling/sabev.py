"""SABEV, the meta-architecture with semantic-aware BEV pooling (SA-BEV, arXiv:2307.11477).

Shapes: V views (the cameras of all samples), C context channels, D depth bins, (H, W) image size,
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
    """``ImageFeatures`` with an optional finer map for the depth network.

    Attributes:
        fine: (V, C', 2 h', 2 w') map for ``features`` of (V, C, h', w'); None for depth networks
            with a single scale.
    """

    fine: Tensor | None = None


@dataclass(frozen=True)
class SemanticFrame(FrameFeatures):
    """``FrameFeatures`` with the logits for the losses.

    Attributes:
        scales: logits of depth and semantics per scale, coarse to fine.
    """

    scales: tuple[TaskLogits, ...]


@META_ARCH_REGISTRY.register()
class SABEV(LiftSplatDetector):
    """Multi-view 3D detector with semantic-aware BEV pooling.

    The depth network also segments the foreground, and the view transform pools foreground only.
    Inputs and outputs are those of ``LiftSplatDetector``. Training also requires ``gt_depth`` and
    ``gt_foreground`` and also returns ``loss_depth`` and ``loss_semantic``.

    Args:
        depth_net: SemanticDepthNet or CrossTaskHead, or another network that returns a
            SemanticDepth and has an attribute ``fine_level``, the index of the backbone map that
            it takes in addition to the pyramid's, or None.
        depth_loss_weight: weight of ``loss_depth``.
        semantic_loss_weight: weight of ``loss_semantic``.
        parts: the other arguments of ``LiftSplatDetector``; ``msfe`` is not used.

    Raises:
        ValueError: the depth network has no ``fine_level``.
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
        """Runs the image branch; see ``LiftSplatDetector.extract_image_features``."""
        maps = self.backbone(self.normalise(images))
        features = self.neck(maps)[-1]
        level = self.depth_net.fine_level
        if level is None:
            return TwoScaleFeatures(self.depth_net.embed(features))
        features, fine = self.depth_net.embed(features, maps[level])
        return TwoScaleFeatures(features, fine=fine)

    def predict_depth(self, image: TwoScaleFeatures, camera_vector: Tensor) -> SemanticFrame:
        """Predicts depth, foreground and context; see ``LiftSplatDetector.predict_depth``."""
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
        """Computes the labels of the key frame; earlier frames have no losses."""
        return [self.downsample_labels(batched_inputs, 0)] + [None] * (self.num_frames - 1)

    def image_losses(
        self, key_frame: SemanticFrame, labels: DepthLabels, batched_inputs: list[dict]
    ) -> dict[str, Tensor]:
        """Computes ``loss_depth`` and ``loss_semantic`` on the key frame."""
        depth, semantic = task_losses(key_frame.scales, labels)
        return {
            "loss_depth": self.depth_loss_weight * depth,
            "loss_semantic": self.semantic_loss_weight * semantic,
        }
