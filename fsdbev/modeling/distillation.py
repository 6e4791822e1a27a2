"""Foreground self-distillation (FSD-BEV, section 3.2; SPEC section 7).

Teacher and student share image features and everything after pooling; they differ in the depth
distribution and the foreground mask that weigh the pooling.

Shapes: V images, D depth bins, (h, w) = (H, W) / 16, B samples, C channels, (Y, X) BEV grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .depth_labels import DepthLabels
from .precision import full_precision

#: What fills the holes of the teacher's hard labels, see ``teacher_weights``.
TEACHER_FILLS = ("paper", "release")


def teacher_weights(
    labels: DepthLabels,
    depth_prob: Tensor,
    foreground: Tensor,
    *,
    fill: str,
    foreground_threshold: float,
) -> tuple[Tensor, Tensor]:
    """Weights of the teacher's pooling: hard labels, with the student's soft ones in their holes.

    Gradients flow into ``depth_prob`` where it fills a hole.

    Args:
        labels: of the frame.
        depth_prob: (V, D, h, w) the student's depth probability.
        foreground: (V, h, w) the student's foreground probability.
        fill: "paper": a cell without label that the student takes for foreground counts as such,
            with the student's depth; "release": only label foreground counts, as in the public
            release (SPEC section 9).
        foreground_threshold: the student's foreground begins here.

    Returns:
        (V, D, h, w) depth weights, (V, h, w) foreground, 0 or 1.
    """
    weights = torch.where(labels.known[:, None], labels.distribution, depth_prob)
    is_foreground = labels.foreground
    if fill == "paper":
        is_foreground = is_foreground | (~labels.known & (foreground >= foreground_threshold))
    elif fill != "release":
        raise ValueError(f"teacher fill must be one of {TEACHER_FILLS}, got {fill!r}")
    return weights, is_foreground.to(weights.dtype)


@full_precision
def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of BEV features over the teacher's norm, mean over cells.

    Args:
        student, teacher: (B, C, Y, X) encoder outputs; gradients flow into both.
    """
    norm = torch.linalg.vector_norm(teacher, dim=1, keepdim=True) + 1e-7
    cells = student.shape[0] * student.shape[-2] * student.shape[-1]
    return ((student / norm) - (teacher / norm)).square().sum() / cells
