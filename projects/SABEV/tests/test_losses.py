import math

import pytest
import torch
import torch.nn.functional as F

from fsdbev.modeling.depth_labels import DepthLabels, depth_loss
from fsdbev.structures import DepthBins
from projects.SABEV.modeling import TaskLogits, semantic_loss, task_losses

BINS = DepthBins(step=10.0)


def cells(foreground, known):
    """Returns labels of one row of cells, without depth."""
    known, foreground = torch.tensor([[known]]), torch.tensor([[foreground]])
    return DepthLabels(torch.zeros(1, 2, *known.shape[1:]), foreground, known)


def test_semantic_loss_by_hand():
    # A foreground cell at 0.25, a background cell at 0.8, and a cell without label.
    foreground_prob = torch.tensor([0.25, 0.2, 0.9])
    logits = torch.stack([1 - foreground_prob, foreground_prob]).log().view(1, 2, 1, 3)
    loss = semantic_loss(logits, cells([True, False, False], [True, True, False]))
    expected = (0.75**2 * -math.log(0.25) + 0.2**2 * -math.log(0.8)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_semantic_loss_is_the_two_channels_focal_loss_of_any_alpha(random_labels):
    labels = random_labels((8, 12), BINS)
    logits = torch.randn(4, 2, 8, 12)
    prob = logits.softmax(dim=1)
    target = torch.stack([~labels.foreground, labels.foreground], dim=1).float()
    wrong = (prob - target).abs()
    for alpha in (0.25, 0.9):
        weight = alpha * target + (1 - alpha) * (1 - target)
        entropy = F.binary_cross_entropy(prob, target, reduction="none")
        focal = (weight * wrong**2 * entropy).sum(dim=1)[labels.known].mean()
        torch.testing.assert_close(semantic_loss(logits, labels), focal)


def test_semantic_loss_is_finite_for_saturated_logits():
    logits = torch.tensor([400.0, -400.0, -400.0, 400.0]).view(1, 2, 1, 2).requires_grad_()
    loss = semantic_loss(logits, cells([True, True], [True, True]))
    loss.backward()
    assert loss.item() == pytest.approx(800 / 2 + 0)
    assert logits.grad.isfinite().all()


def test_semantic_loss_without_labels_is_zero():
    logits = torch.randn(1, 2, 1, 2)
    assert semantic_loss(logits, cells([False, False], [False, False])).item() == 0


def test_one_scale_has_full_weight(random_labels):
    labels = random_labels((8, 12), BINS)
    logits = TaskLogits(torch.randn(4, 6, 8, 12), torch.randn(4, 2, 8, 12))
    depth, semantic = task_losses([logits], labels)
    torch.testing.assert_close(depth, depth_loss(logits.depth.softmax(dim=1), labels))
    torch.testing.assert_close(semantic, semantic_loss(logits.semantic, labels))


def test_two_scales_have_equal_weight_and_coarse_logits_are_upsampled(random_labels):
    labels = random_labels((8, 12), BINS)
    coarse = TaskLogits(3 * torch.randn(4, 6, 4, 6), 3 * torch.randn(4, 2, 4, 6))
    fine = TaskLogits(torch.randn(4, 6, 8, 12), torch.randn(4, 2, 8, 12))
    large = TaskLogits(
        *(
            F.interpolate(x, scale_factor=2, mode="bilinear")
            for x in (coarse.depth, coarse.semantic)
        )
    )
    parts = [task_losses([logits], labels) for logits in (large, fine)]
    for i, loss in enumerate(task_losses([coarse, fine], labels)):
        torch.testing.assert_close(loss, (parts[0][i] + parts[1][i]) / 2)


def test_labels_must_have_the_size_of_the_finest_scale(random_labels):
    logits = TaskLogits(torch.randn(4, 6, 8, 12), torch.randn(4, 2, 8, 12))
    with pytest.raises(ValueError, match=r"\(4, 6\) cells don't fit .*\(8, 12\).*model.stride"):
        task_losses([logits], random_labels((4, 6), BINS))
