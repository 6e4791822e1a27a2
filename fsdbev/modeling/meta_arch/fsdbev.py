"""FSDBEV, the meta-architecture with foreground self-distillation (FSD-BEV, arXiv:2407.10135).

Shapes: B samples, T frames (0 is the key frame), V views (the cameras of all samples), S weight
sets (student, teacher), C context channels, D depth bins, (h, w) = (H, W) / 16, (Y, X) BEV grid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fsdbev.d2.modeling import META_ARCH_REGISTRY
from fsdbev.modeling.center_head import TrainingPredictions
from fsdbev.modeling.depth_labels import DepthLabels, depth_loss
from fsdbev.modeling.distillation import TEACHER_FILLS, distillation_loss, teacher_weights

from .lift_splat_detector import FrameFeatures, LiftSplatDetector


@META_ARCH_REGISTRY.register()
class FSDBEV(LiftSplatDetector):
    """Multi-view 3D detector with foreground self-distillation.

    Inputs and outputs are those of ``LiftSplatDetector``. Training also requires ``gt_depth``,
    ``gt_foreground`` and ``gt_heatmap`` and also returns ``loss_depth``, ``loss_distill`` and
    ``loss_foreground``.

    In training with teacher and student the context of every frame is pooled twice: weighted by the
    predicted depth (student) and by the label depth (teacher). Both BEV maps pass the same encoder
    and head, and ``loss_distill`` compares their encoder outputs (docs/model.md, "Foreground
    self-distillation").

    Args:
        msfe: foreground branch, pyramid -> ``ImageFeatures``, with a method ``loss``: ``MSFE`` or
            ``ForegroundBranch``.
        num_frames: T.
        teacher_fill: "paper" or "release", see ``distillation.teacher_weights``; None to train
            without teacher.
        student: False for the teacher alone. Evaluation then pools with the label depth too, and
            needs ``gt_depth`` and ``gt_foreground`` (``with_labels`` of the mapper).
        depth_loss_weight: weight of ``loss_depth``.
        distill_loss_weight: weight of ``loss_distill``.
        foreground_loss_weight: weight of ``loss_foreground``.
        parts: the other arguments of ``LiftSplatDetector``.

    Raises:
        ValueError: ``teacher_fill`` is none of its options, or there is neither student nor
            teacher.
    """

    def __init__(
        self,
        *,
        msfe: nn.Module,
        num_frames: int = 2,
        teacher_fill: str | None = "paper",
        student: bool = True,
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
        if teacher_fill is None and not student:
            raise ValueError("student=False trains the teacher alone, which needs a teacher_fill")
        self.teacher_fill = teacher_fill
        self.student = student
        self.labels_in_evaluation = not student
        self.depth_loss_weight = depth_loss_weight
        self.distill_loss_weight = distill_loss_weight
        self.foreground_loss_weight = foreground_loss_weight

    def make_labels(self, batched_inputs: list[dict]) -> list[DepthLabels]:
        """Computes the labels of all frames, since every frame has a teacher BEV map.

        Raises:
            ValueError: the samples have no labels.
        """
        if "gt_depth" not in batched_inputs[0]:
            raise ValueError(
                "the samples have no gt_depth, which the teacher needs; for an evaluation set "
                "dataloader.test.mapper.with_labels=true"
            )
        return [self.downsample_labels(batched_inputs, t) for t in range(self.num_frames)]

    def pooling_weights(
        self, frame: FrameFeatures, labels: DepthLabels | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the weights of the student, with labels those of the teacher too (S = 1 or 2);
        without a student those of the teacher.

        Raises:
            ValueError: there are neither labels nor a student.
        """
        if labels is None and not self.student:
            raise ValueError("the teacher alone needs samples with gt_depth and gt_foreground")
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
        if not self.student:
            return hard_weights[None], hard_foreground[None]
        return (
            torch.cat([weights, hard_weights[None]]),
            torch.cat([foreground, hard_foreground[None]]),
        )

    def image_losses(
        self, key_frame: FrameFeatures, labels: DepthLabels, batched_inputs: list[dict]
    ) -> dict[str, Tensor]:
        """Computes ``loss_depth`` and ``loss_foreground`` on the key frame."""
        gt_heatmap = self.views(batched_inputs, "gt_heatmap")
        foreground = self.msfe.loss(key_frame.image, gt_heatmap, labels)
        return {
            "loss_depth": self.depth_loss_weight * depth_loss(key_frame.depth_prob, labels),
            "loss_foreground": self.foreground_loss_weight * foreground,
        }

    def bev_losses(
        self,
        bev_feats: Tensor,
        predictions: list[dict[str, Tensor]] | TrainingPredictions,
        batched_inputs: list[dict],
        transforms: Tensor | None,
    ) -> dict[str, Tensor]:
        """Computes the head's losses for student and teacher, and ``loss_distill``."""
        losses = super().bev_losses(bev_feats, predictions, batched_inputs, transforms)
        if self.student and self.teacher_fill is not None:
            # pooling_weights puts the student first, and all of its samples precede the teacher's.
            student, teacher = bev_feats.chunk(2)
            distance = distillation_loss(student, teacher)
            losses["loss_distill"] = self.distill_loss_weight * distance
        return losses
