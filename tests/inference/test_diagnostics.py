"""Diagnostics of a model: its detections, maps of its images, attention, errors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.inference import diagnose
from fsdbev.inference.diagnostics import attention_of, cells_under, contrast
from fsdbev.structures import BEVGrid, Boxes3D

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "fsdbev_tiny_synthetic.py"
SIZES = {"num_frames": 2, "num_cameras": 3, "image_size": (32, 64)}


@pytest.fixture(scope="module")
def model():
    cfg = load_config(str(CONFIG), ["model.grid.cell=7.0", "model.depth_bins.step=4.0"])
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    model.train()(fake_samples(2, **SIZES, training=True))
    model.head.decoder.score_threshold = 0.0
    return model.eval()


@pytest.fixture(scope="module")
def sample():
    return fake_samples(1, **SIZES, training=True)[0]


def without_labels(sample):
    return {key: value for key, value in sample.items() if key not in ("gt_depth", "instances")}


def scene_of(model, sample):
    with torch.no_grad():
        return model.forward_bev(
            [sample], model.iter_image_features([sample]), [None] * model.num_frames
        )


def test_detections_equal_the_models(model, sample):
    with torch.no_grad():
        (expected,) = model([sample])
    expected = expected["instances"]
    diagnostics = diagnose(model, without_labels(sample), score_threshold=0.0)
    assert len(diagnostics.detections) == len(expected.scores) > 0
    assert torch.equal(diagnostics.detections.boxes.tensor, expected.pred_boxes_3d.tensor)
    with_teacher = diagnose(model, sample, score_threshold=0.0).detections
    torch.testing.assert_close(
        with_teacher.boxes.tensor, expected.pred_boxes_3d.tensor, atol=1e-4, rtol=1e-4
    )
    threshold = float(expected.scores.median())
    some = diagnose(model, sample, score_threshold=threshold).detections
    assert 0 < len(some) < len(expected.scores) and some.scores.min() >= threshold


def test_maps_equal_the_networks(model, sample):
    names = ["left", "front", "right"]
    diagnostics = diagnose(model, sample, camera_names=names, title="a sample")
    frame = scene_of(model, sample).key_frame
    assert diagnostics.title == "a sample" and [c.view.name for c in diagnostics.cameras] == names
    for i, camera in enumerate(diagnostics.cameras):
        assert np.array_equal(camera.view.image, sample["images"][0, i].permute(1, 2, 0))
        most_likely = model.depth_bins.centers[frame.depth_prob[i].argmax(dim=0)]
        np.testing.assert_allclose(camera.depth, most_likely)
        np.testing.assert_allclose(camera.foreground, frame.foreground[i])
    assert diagnostics.heatmap.shape == model.grid.shape and 0 <= diagnostics.heatmap.min() < 1


def test_depth_is_metric_for_augmented_images(model, sample):
    """The bins of an image scaled together with its depth are scaled too."""
    scaled = dict(sample, image_aug=sample["image_aug"].clone())
    scaled["image_aug"][:, 2, 2] = 2.0
    frame = scene_of(model, scaled).key_frame
    most_likely = model.depth_bins.centers[frame.depth_prob[0].argmax(dim=0)]
    diagnostics = diagnose(model, without_labels(scaled)).cameras[0]
    np.testing.assert_allclose(diagnostics.depth, most_likely / 2)


def test_the_teacher_needs_labels(model, sample):
    diagnostics = diagnose(model, sample)
    assert diagnostics.teacher_bev.shape == diagnostics.student_bev.shape
    assert np.abs(diagnostics.teacher_bev - diagnostics.student_bev).max() > 0.01
    assert len(diagnostics.truth) == len(sample["instances"])
    without = diagnose(model, without_labels(sample))
    assert without.teacher_bev is None and without.truth is None


def test_models_without_a_foreground_branch(model, sample):
    class WithoutForeground(nn.Module):
        def __init__(self, msfe):
            super().__init__()
            self.msfe = msfe

        def forward(self, pyramid):
            return replace(self.msfe(pyramid), foreground=None)

    original, model.msfe = model.msfe, WithoutForeground(model.msfe)
    try:
        assert all(c.foreground is None for c in diagnose(model, without_labels(sample)).cameras)
    finally:
        model.msfe = original


@pytest.mark.parametrize("background", [0.0, 0.5])
def test_attention_is_the_weight_in_the_cells_under_boxes(model, sample, monkeypatch, background):
    """With a context of 1, a pooled cell is the sum of the weights of all pixels in it."""
    scene = scene_of(model, sample)
    frame = scene.key_frame
    threshold = float(frame.foreground.quantile(background))
    monkeypatch.setattr(model.view_transform, "foreground_threshold", threshold)
    boxes = Boxes3D(
        torch.tensor([[3.0, -3, 0, 9, 9, 2, 0.3, 0, 0], [-24, 17, 0, 1, 1, 1, 0, 0, 0]])
    )
    ones = torch.ones_like(frame.context[:, :1])
    pooled = model.view_transform(*model.pooling_weights(frame, None), ones, scene.view_to_bev)[
        0, 0, 0
    ]
    attention = attention_of(model, scene, boxes)
    under = pooled[cells_under(boxes, model.grid)].sum()
    torch.testing.assert_close(attention.sum(), under)
    assert under > 0 and (attention >= 0).all() and (attention <= 1 + 1e-5).all()
    assert attention.shape == frame.foreground.shape
    assert not attention_of(model, scene, boxes[:0]).any()


def test_cells_under_a_box():
    """Cells whose centre is in a box enlarged by half a cell; cells are 2 m wide."""
    grid = BEVGrid(x_range=(-10, 10), y_range=(-10, 10), cell=2.0)
    small = Boxes3D(torch.tensor([[1.2, 1.2, 0.5, 0.1, 0.1, 0.1, 0.7, 0, 0]]))
    assert torch.nonzero(cells_under(small, grid)).tolist() == [[5, 5]]
    long = Boxes3D(torch.tensor([[2.2, 1.2, 9.0, 4.0, 1.0, 1.0, 0, 0, 0]]))
    assert torch.nonzero(cells_under(long, grid)).tolist() == [[5, 5], [5, 6], [5, 7]]
    turned = Boxes3D(torch.tensor([[1.2, 2.2, 9.0, 4.0, 1.0, 1.0, np.pi / 2, 0, 0]]))
    assert torch.nonzero(cells_under(turned, grid)).tolist() == [[5, 5], [6, 5], [7, 5]]
    assert not cells_under(long[:0], grid).any()


def test_contrast_is_the_distance_to_the_median_cell():
    feats = torch.full((2, 3, 5, 5), 7.0)
    feats[1, :, 2, 3] += torch.tensor([3.0, 4.0, 0.0])
    expected = torch.zeros(2, 5, 5)
    expected[1, 2, 3] = 5.0
    assert torch.equal(contrast(feats), expected)


def test_errors(model, sample):
    with pytest.raises(ValueError, match="LiftSplatDetector, but the model is a Linear"):
        diagnose(nn.Linear(1, 1), sample)
    model.train()
    try:
        with pytest.raises(ValueError, match=r"call model.eval\(\)"):
            diagnose(model, sample)
    finally:
        model.eval()
