"""FSDBEV: the meta-architecture of foreground self-distillation.

Shapes: B samples, T frames (0 is the key frame), N cameras, V = B N views, S weight sets (student,
teacher), C context channels, D depth bins, (h, w) = (H, W) / 16, (Y, X) BEV grid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fsdbev.d2.modeling import META_ARCH_REGISTRY
from fsdbev.modeling.depth_labels import DepthLabels, depth_loss
from fsdbev.modeling.distillation import TEACHER_FILLS, distillation_loss, teacher_weights

from .lift_splat_detector import FrameFeatures, LiftSplatDetector


@META_ARCH_REGISTRY.register()
class FSDBEV(LiftSplatDetector):
    """Multi-view 3D detection with foreground self-distillation (arXiv 2407.10135).

    Takes, and gives in evaluation, what ``LiftSplatDetector`` does; for training it needs
    ``gt_depth``, ``gt_foreground`` and ``gt_heatmap`` too, and returns ``loss_depth``,
    ``loss_distill`` and ``loss_foreground`` beside the head's ``task{i}.loss_*``.

    Args:
        msfe: the pyramid of strides 4, 8, 16 -> ImageFeatures; has ``loss``.
        num_frames: T.
        teacher_fill: "paper" or "release", see ``distillation.teacher_weights``; None trains the
            student alone.
        depth_loss_weight, distill_loss_weight, foreground_loss_weight: of those losses.
        parts: the other arguments of ``LiftSplatDetector``.
    """

    def __init__(
        self,
        *,
        msfe: nn.Module,
        num_frames: int = 2,
        teacher_fill: str | None = "paper",
        depth_loss_weight: float = 3.0,
        distill_loss_weight: float = 1.0,
        foreground_loss_weight: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(msfe=msfe, num_frames=num_frames, **parts)
        if teacher_fill not in (*TEACHER_FILLS, None):
            raise ValueError(
                f"teacher_fill must be one of {TEACHER_FILLS} or None, got {teacher_fill!r}"
            )
        self.teacher_fill = teacher_fill
        self.depth_loss_weight = depth_loss_weight
        self.distill_loss_weight = distill_loss_weight
        self.foreground_loss_weight = foreground_loss_weight

    def make_labels(self, batched_inputs: list[dict]) -> list[DepthLabels]:
        return [self.downsample_labels(batched_inputs, t) for t in range(self.num_frames)]

    def pooling_weights(
        self, frame: FrameFeatures, labels: DepthLabels | None
    ) -> tuple[Tensor, Tensor]:
        """The student's, then the teacher's if there are labels to teach by."""
        weights, foreground = super().pooling_weights(frame, labels)
        if labels is None or self.teacher_fill is None:
            return weights, foreground
        hard_weights, hard_foreground = teacher_weights(
            labels,
            frame.depth_prob,
            frame.foreground,
            fill=self.teacher_fill,
            foreground_threshold=self.view_transform.foreground_threshold,
        )
        return (
            torch.cat([weights, hard_weights[None]]),
            torch.cat([foreground, hard_foreground[None]]),
        )

    def image_losses(
        self, key_frame: FrameFeatures, labels: DepthLabels, batched_inputs: list[dict]
    ) -> dict[str, Tensor]:
        """Losses of depth and foreground, on the key frame."""
        gt_heatmap = self._stack(batched_inputs, "gt_heatmap").flatten(0, 1)
        foreground = self.msfe.loss(key_frame.image, gt_heatmap, labels)
        return {
            "loss_depth": self.depth_loss_weight * depth_loss(key_frame.depth_prob, labels),
            "loss_foreground": self.foreground_loss_weight * foreground,
        }

    def bev_losses(
        self,
        bev_feats: Tensor,
        predictions: list[dict[str, Tensor]],
        batched_inputs: list[dict],
        transforms: Tensor | None,
    ) -> dict[str, Tensor]:
        """Losses of detection, for student and teacher alike, and of distillation."""
        losses = super().bev_losses(bev_feats, predictions, batched_inputs, transforms)
        if self.teacher_fill is not None:
            student, teacher = bev_feats.chunk(2)
            distance = distillation_loss(student, teacher)
            losses["loss_distill"] = self.distill_loss_weight * distance
        return losses
