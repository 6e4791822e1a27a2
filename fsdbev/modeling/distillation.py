"""Foreground self-distillation (FSD-BEV, arXiv:2407.10135, section 3.2).

Teacher and student share the image features and all layers after pooling. They differ in the depth
distribution and the foreground mask of the pooling (docs/model.md, "Foreground
self-distillation").

Shapes: V images, D depth bins, (h, w) = (H, W) / 16, B samples, C channels, (Y, X) BEV grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .depth_labels import DepthLabels
from .precision import full_precision

#: Rules for cells without a depth label, see ``teacher_weights``.
TEACHER_FILLS = ("paper", "release")


def teacher_weights(
    labels: DepthLabels,
    depth_prob: Tensor,
    foreground: Tensor,
    *,
    fill: str,
    foreground_threshold: float,
) -> tuple[Tensor, Tensor]:
    """Computes the pooling weights of the teacher: label depth, filled with predicted depth.

    Cells without a depth label take the student's depth probability. Gradients flow into
    ``depth_prob`` through these cells.

    Args:
        labels: labels of the frame.
        depth_prob: (V, D, h, w) the student's depth probability.
        foreground: (V, h, w) the student's foreground probability.
        fill: "paper" also pools cells without a label whose predicted foreground probability
            reaches the threshold. "release" pools only cells with a foreground label, as the
            public release does (docs/model.md, "Paper and release").
        foreground_threshold: smallest foreground probability of a filled cell.

    Returns:
        (V, D, h, w) depth weights and (V, h, w) foreground mask, 0 or 1.

    Raises:
        ValueError: ``fill`` is not one of ``TEACHER_FILLS``.
    """
    # The release fills the weights too and masks them away again. Both rules share this line.
    weights = torch.where(labels.known[:, None], labels.distribution, depth_prob)
    is_foreground = labels.foreground
    if fill == "paper":
        is_foreground = is_foreground | (~labels.known & (foreground >= foreground_threshold))
    elif fill != "release":
        raise ValueError(f"teacher fill must be one of {TEACHER_FILLS}, got {fill!r}")
    return weights, is_foreground.to(weights.dtype)


@full_precision
def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes the squared distance of BEV features relative to the teacher's norm.

    Sums over channels and averages over B Y X cells (docs/model.md, "Foreground
    self-distillation").

    Args:
        student: (B, C, Y, X) encoder output of the student.
        teacher: (B, C, Y, X) encoder output of the teacher.
    """
    # The teacher is not detached: it is the same network, and the loss trains both sides, as in the
    # release.
    # 1e-7 keeps the quotients finite in cells where all teacher features are 0.
    norm = torch.linalg.vector_norm(teacher, dim=1, keepdim=True) + 1e-7
    cells = student.shape[0] * student.shape[-2] * student.shape[-1]
    return ((student / norm) - (teacher / norm)).square().sum() / cells
