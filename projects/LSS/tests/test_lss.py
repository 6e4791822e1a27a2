"""Lift, Splat, Shoot: one frame, depth per pixel, plain NMS."""

from pathlib import Path

import pytest
import torch

from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.structures import NUSCENES_CLASSES
from projects.LSS import LSS

TINY = Path(__file__).parents[1] / "configs" / "lss_tiny_synthetic.py"


def build(*overrides):
    cfg = load_config(str(TINY), ["model.grid.cell=7.0", *overrides])
    torch.manual_seed(0)
    return instantiate(cfg.model)


def test_depth_has_gradients_from_detection_losses():
    model = build()
    sizes = {"num_frames": 1, "num_cameras": 2, "image_size": (32, 64)}
    samples = fake_samples(2, training=True, **sizes)
    for sample in samples:
        del sample["gt_depth"], sample["gt_foreground"], sample["gt_heatmap"]
    losses = model(samples)
    assert type(model) is LSS and {name.split(".")[0][:4] for name in losses} == {"task"}
    sum(losses.values()).backward()
    depth_rows = model.depth_net.conv.weight.grad[: model.depth_bins.count]
    assert depth_rows.abs().sum() > 0


def test_camera_vector_is_ignored_and_all_points_are_pooled():
    model = build().eval()
    image = model.extract_image_features(torch.rand(2, 3, 32, 64) * 255)
    frames = [model.predict_depth(image, torch.randn(2, 27)) for _ in range(2)]
    assert torch.equal(frames[0].depth_prob, frames[1].depth_prob)
    assert torch.equal(frames[0].context, frames[1].context)
    assert frames[0].foreground.min() == 1 and model.view_transform.depth_threshold == 0


def test_plain_nms_does_not_scale_boxes():
    groups = build().classes.groups
    assert [g.names for g in groups] == [g.names for g in NUSCENES_CLASSES.groups]
    assert {(g.iou_threshold, g.center_distance) for g in groups} == {(0.2, None)}
    assert {scale for g in groups for scale in g.dim_scale} == {1.0}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_frames=2", "LSS takes one frame, got num_frames=2"),
        ("model.depth_net.name=DepthNet", "LSS takes a PixelDepthNet, got a DepthNet"),
    ],
)
def test_rejects_parts_of_other_models(override, message):
    with pytest.raises(ValueError, match=message):
        build(override)
