"""BEVDepth (AAAI 2023, arXiv:2206.10092): LiDAR-supervised depth and refinement of lifted features.

Shapes: B samples, T frames, V views (the cameras of all samples), C context channels, D depth bins,
(h, w) = (H, W) / 16, (Y, X) BEV grid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fsdbev.modeling import META_ARCH_REGISTRY, FrameFeatures, LiftSplatDetector
from fsdbev.modeling.depth_labels import DepthLabels, depth_loss, downsample_labels
from fsdbev.modeling.view_transform import ViewToBEV

from .refinement import DepthRefinement, splat_volume


@META_ARCH_REGISTRY.register()
class BEVDepth(LiftSplatDetector):
    """Detector with camera-aware depth, supervised by the nearest LiDAR point of each cell.

    Training also requires ``gt_depth`` and also returns ``loss_depth``.

    Args:
        depth_refinement: module applied to the lifted features before the splat; None for none.
        depth_loss_weight: weight of ``loss_depth``.
        parts: the other arguments of ``LiftSplatDetector``.
    """

    def __init__(
        self,
        *,
        depth_refinement: DepthRefinement | None = None,
        depth_loss_weight: float = 3.0,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.depth_refinement = depth_refinement
        self.depth_loss_weight = depth_loss_weight

    def pool(
        self, frame: FrameFeatures, view_to_bev: ViewToBEV, labels: DepthLabels | None
    ) -> Tensor:
        """Pools one frame from refined features; see ``LiftSplatDetector.pool``."""
        if self.depth_refinement is None:
            return super().pool(frame, view_to_bev, labels)
        volume = self.depth_refinement(frame.depth_prob, frame.context)
        pooled = splat_volume(self.view_transform, volume, view_to_bev)
        return pooled if self.temporal_stage is None else self.temporal_stage(pooled)

    def make_labels(self, batched_inputs: list[dict]) -> list[DepthLabels | None]:
        """Computes the labels of the key frame: the nearest point of each cell."""
        gt_depth = self.views(batched_inputs, "gt_depth", frame=0)
        # Without foreground points every cell is background and takes its nearest point.
        no_foreground = torch.zeros_like(gt_depth, dtype=torch.bool)
        labels = downsample_labels(gt_depth, no_foreground, self.depth_bins, self.stride)
        return [labels] + [None] * (self.num_frames - 1)

    def image_losses(
        self, key_frame: FrameFeatures, labels: DepthLabels, batched_inputs: list[dict]
    ) -> dict[str, Tensor]:
        """Computes ``loss_depth``, the mean cross-entropy of depth over cells with a point."""
        # Equal weights: BEVDepth does not distinguish foreground.
        loss = depth_loss(
            key_frame.depth_prob, labels, foreground_weight=1.0, background_weight=1.0
        )
        return {"loss_depth": self.depth_loss_weight * loss}
