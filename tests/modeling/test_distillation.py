"""Foreground self-distillation: weights of the teacher, and the loss."""

import pytest
import torch

from fsdbev.layers.reference.lift_splat import passes_thresholds
from fsdbev.modeling.depth_labels import DepthLabels
from fsdbev.modeling.distillation import distillation_loss, teacher_weights

#: Five cells: foreground with a depth label, background with a depth label, foreground without
#: one, and two cells without any label, which differ in the student's foreground probability.
LABELS = DepthLabels(
    distribution=torch.tensor([[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]).view(1, 2, 1, 5),
    foreground=torch.tensor([True, False, True, False, False]).view(1, 1, 5),
    known=torch.tensor([True, True, False, False, False]).view(1, 1, 5),
)
FOREGROUND = torch.tensor([0.0, 0.9, 0.0, 0.1, 0.09]).view(1, 1, 5)


@pytest.mark.parametrize(
    ("fill", "expected"), [("paper", [1, 0, 1, 1, 0]), ("release", [1, 0, 1, 0, 0])]
)
def test_which_cells_are_the_teachers_foreground(fill, expected):
    depth_prob = torch.full((1, 2, 1, 5), 0.5)
    _, foreground = teacher_weights(
        LABELS, depth_prob, FOREGROUND, fill=fill, foreground_threshold=0.1
    )
    assert foreground.flatten().tolist() == expected


def test_without_foreground_segmentation_all_cells_are_pooled():
    weights, foreground = teacher_weights(
        LABELS, torch.full((1, 2, 1, 5), 0.5), FOREGROUND, fill="paper", foreground_threshold=0.0
    )
    # The view transform pools a cell whose foreground, here 0 or 1, reaches the threshold.
    assert passes_thresholds(weights[None], foreground[None], 0.0, 0.0).all()
    assert not passes_thresholds(weights[None], foreground[None], 0.0, 0.1).all()
    assert weights[0, :, 0].T.tolist() == [[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]


def test_weights_are_labels_and_the_students_where_there_is_no_label():
    depth_prob = torch.full((1, 2, 1, 5), 0.5, requires_grad=True)
    weights, _ = teacher_weights(
        LABELS, depth_prob, FOREGROUND, fill="paper", foreground_threshold=0.1
    )
    assert weights[0, :, 0].T.tolist() == [[1, 0], [0, 1], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    weights.sum().backward()
    assert depth_prob.grad[0, 0, 0].tolist() == [0, 0, 1, 1, 1]


def test_unknown_fill():
    with pytest.raises(ValueError, match="got 'both'"):
        teacher_weights(
            LABELS, torch.zeros(1, 2, 1, 5), FOREGROUND, fill="both", foreground_threshold=0.1
        )


def test_distillation_loss_by_hand():
    student, teacher = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    teacher[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    teacher[0, :, 0, 1] = torch.tensor([0.0, 2.0])
    student[0, :, 0, 1] = torch.tensor([1.0, 2.0])
    # cell 0: |(0.6, 0.8)|^2 = 1; cell 1: |(0.5, 0)|^2 = 0.25; two cells
    assert distillation_loss(student, teacher).item() == pytest.approx(1.25 / 2, rel=1e-5)

    # Empty cells have no direction.
    assert distillation_loss(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)).item() == 0


def test_distillation_loss_has_gradients_for_student_and_teacher():
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    teacher = torch.randn(2, 3, 4, 4, requires_grad=True)
    distillation_loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad.abs().sum() > 0
