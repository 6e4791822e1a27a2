"""BEVDet and BEVDet4D: frames, losses, and names of the released weights."""

from pathlib import Path

import pytest
import torch
from release_shapes import bevdet_shapes, fake_weights

from fsdbev.checkpoint import load_weights
from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from projects.BEVDet import BEVDet, BEVDet4D

CONFIGS = Path(__file__).parents[1] / "configs"


def build(name, *overrides):
    cfg = load_config(str(CONFIGS / f"{name}.py"), overrides)
    torch.manual_seed(0)
    return instantiate(cfg.model)


@pytest.mark.parametrize(
    ("name", "cls", "frames", "velocity_weight"),
    [("bevdet_tiny_synthetic", BEVDet, 1, 0.2), ("bevdet4d_tiny_synthetic", BEVDet4D, 2, 1.0)],
)
def test_model_and_frames(name, cls, frames, velocity_weight):
    """The velocity loss has a smaller weight with a single frame."""
    model = build(name)
    assert model.head.velocity_weight == velocity_weight
    assert type(model) is cls and model.num_frames == frames
    assert (model.temporal_stage is None) == (frames == 1)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("bevdet_tiny_synthetic", "model.num_frames=2", "BEVDet takes one frame"),
        ("bevdet4d_tiny_synthetic", "model.num_frames=1", "two frames or more.*num_frames=1"),
        ("bevdet4d_tiny_synthetic", "model.temporal_stage=null", "and no temporal_stage"),
    ],
)
def test_rejects_wrong_numbers_of_frames(name, override, message):
    with pytest.raises(ValueError, match=message):
        build(name, override)


def test_earlier_frame_is_used_without_gradient():
    model = build("bevdet4d_tiny_synthetic", "model.grid.cell=7.0")
    sizes = {"num_frames": 2, "num_cameras": 2, "image_size": (32, 64)}
    passes = []
    model.backbone.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    first = model(fake_samples(2, training=True, **sizes))
    assert passes == [True, False]
    samples = fake_samples(2, training=True, **sizes)
    for sample in samples:
        sample["images"][1] = 255 - sample["images"][1]
    second = model(samples)
    assert first["task0.loss_heatmap"] != second["task0.loss_heatmap"]


def public_weights(frames):
    """Returns fake tensors with the names and shapes of BEVDet's released weights.

    Their depth network is one convolution to 59 bins and 80 channels.
    """
    depth_net = "img_view_transformer.depth_net."
    shapes = {k: v for k, v in bevdet_shapes().items() if not k.startswith(depth_net)}
    shapes |= {depth_net + "weight": [59 + 80, 512, 1, 1], depth_net + "bias": [59 + 80]}
    if frames == 1:
        shapes = {k: v for k, v in shapes.items() if not k.startswith("pre_process_net.")}
        first = "img_bev_encoder_backbone.layers.0.0."
        shapes |= {first + name: [160, 80, 3, 3] for name in ("conv1.weight", "downsample.weight")}
    return fake_weights(shapes)


@pytest.mark.parametrize(("name", "frames"), [("bevdet_r50_cbgs", 1), ("bevdet4d_r50_cbgs", 2)])
def test_public_weights_fit(name, frames, tmp_path):
    weights = public_weights(frames)
    torch.save({"state_dict": weights}, tmp_path / "public.pth")
    model = build(name)
    report = load_weights(model, str(tmp_path / "public.pth"), strict=True)
    assert len(report.loaded) == len(weights) == len(model.state_dict())
    for ours, public in (
        ("backbone.conv1.weight", "img_backbone.conv1.weight"),
        ("neck.output_convs.0.bias", "img_neck.fpn_convs.0.conv.bias"),
        ("depth_net.conv.weight", "img_view_transformer.depth_net.weight"),
        ("bev_encoder.stages.0.0.conv1.weight", "img_bev_encoder_backbone.layers.0.0.conv1.weight"),
        ("head.task_heads.5.vel.1.bias", "pts_bbox_head.task_heads.5.vel.1.bias"),
    ):
        assert torch.equal(model.state_dict()[ours], weights[public])
