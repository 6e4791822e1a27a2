"""Multi-scale foreground enhancement, and the foreground branch that replaces it."""

import math

import pytest
import torch

from fsdbev.modeling import MSFE, ForegroundBranch
from fsdbev.modeling.depth_labels import DepthLabels
from fsdbev.modeling.msfe import heatmap_loss
from fsdbev.structures import NUSCENES_CLASSES


def pyramid(channels=4, height=64, width=96):
    torch.manual_seed(0)
    return [torch.randn(2, channels, height // s, width // s) for s in (4, 8, 16)]


def test_shapes_and_initial_probability():
    image = MSFE(in_channels=4, classes=NUSCENES_CLASSES)(pyramid())
    assert image.features.shape == (2, 4, 4, 6)
    assert image.foreground.shape == (2, 4, 6)
    assert image.logits.shape == (2, 10, 16, 24)
    assert 0.05 < image.logits.sigmoid().mean() < 0.25


def test_foreground_is_pooled_and_weak_foreground_is_zero():
    msfe = MSFE(in_channels=4, classes=NUSCENES_CLASSES)
    logits = torch.full((2, 10, 16, 24), -9.0)
    logits[0, 3, 5, 9] = 0.5  # cell (1, 2) at stride 16
    logits[1, 7, 0, 0] = -2.5  # probability 0.076, below the threshold
    msfe.predict_heatmaps = lambda f4: logits
    image = msfe(pyramid())
    expected = torch.zeros(2, 4, 6)
    expected[0, 1, 2] = torch.tensor(0.5).sigmoid()
    torch.testing.assert_close(image.foreground, expected)


def test_without_foreground_features_are_f16():
    msfe = MSFE(in_channels=4, classes=NUSCENES_CLASSES)
    msfe.predict_heatmaps = lambda f4: torch.full((2, 10, 16, 24), -9.0)
    maps = pyramid()
    torch.testing.assert_close(msfe(maps).features, maps[-1])


def test_full_foreground_adds_finer_maps_at_the_corners():
    msfe = MSFE(in_channels=4, classes=NUSCENES_CLASSES)
    msfe.predict_heatmaps = lambda f4: torch.full((2, 10, 16, 24), 20.0)
    f4, f8, f16 = pyramid()
    features = msfe([f4, f8, f16]).features
    # align_corners: the corners of the three maps are at the same place.
    for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(
            features[..., i, j], f16[..., i, j] + f8[..., i, j] + f4[..., i, j]
        )


def test_heatmap_loss_by_hand():
    logits = torch.zeros(1, 1, 1, 3)
    target = torch.tensor([1.0, 0.5, 0.0]).view(1, 1, 1, 3)
    positive = math.log(0.5) * 0.25 * (1 + 0.25)
    negative = math.log(0.5) * 0.25
    expected = -(positive + negative) / 1.25
    assert heatmap_loss(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_heatmap_loss_without_objects_is_not_normalised():
    logits = torch.zeros(1, 1, 1, 4, requires_grad=True)
    loss = heatmap_loss(logits, torch.zeros(1, 1, 1, 4))
    assert loss.item() == pytest.approx(-4 * math.log(0.5) * 0.25, rel=1e-6)
    loss.backward()
    assert logits.grad.isfinite().all() and (logits.grad > 0).all()


def test_foreground_branch_replaces_msfe():
    branch, maps = ForegroundBranch(in_channels=4), pyramid()
    image = branch(maps)
    assert image.features is maps[-1]
    assert image.foreground.shape == image.logits.shape == (2, 4, 6)
    labels = DepthLabels(
        distribution=torch.zeros(2, 3, 4, 6),
        foreground=torch.rand(2, 4, 6) > 0.5,
        known=torch.zeros(2, 4, 6, dtype=torch.bool),
    )
    branch.loss(image, torch.zeros(2, 10, 16, 24), labels).backward()
    assert branch.mask_head[0].weight.grad.abs().sum() > 0
