"""BEVDepth: labels, depth loss, refinement, and names of the released weights."""

import math
from pathlib import Path

import pytest
import torch
from release_shapes import bevdet_shapes, fake_weights

from fsdbev.checkpoint import load_weights
from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.modeling import FrameFeatures, ImageFeatures
from fsdbev.modeling.view_transform import ViewToBEV
from fsdbev.structures import Cameras
from projects.BEVDepth import BEVDepth, DepthRefinement
from projects.BEVDepth.modeling.refinement import splat_volume

CONFIGS = Path(__file__).parents[1] / "configs"
SIZES = {"num_frames": 2, "num_cameras": 3, "image_size": (32, 64)}


def build(*overrides, name="bevdepth_tiny_synthetic"):
    cfg = load_config(str(CONFIGS / f"{name}.py"), overrides)
    torch.manual_seed(0)
    return instantiate(cfg.model)


@pytest.fixture
def model():
    return build("model.grid.cell=7.0")


def lifted(model, samples):
    """Returns random depth and context with the transforms of their views."""
    cameras = Cameras.from_samples(samples)
    view_to_bev = ViewToBEV.of_frame(cameras, 0, SIZES["image_size"])
    views, size = len(samples) * SIZES["num_cameras"], (2, 4)
    depth_prob = torch.randn(views, model.depth_bins.count, *size).softmax(dim=1)
    return depth_prob, torch.randn(views, 16, *size), view_to_bev


def test_splat_of_weight_times_context_equals_the_view_transform(model):
    depth_prob, context, view_to_bev = lifted(model, fake_samples(2, **SIZES))
    volume = depth_prob[:, None] * context[:, :, None]
    found = splat_volume(model.view_transform, volume, view_to_bev)
    ones = torch.ones_like(depth_prob[None, :, 0])
    (expected,) = model.view_transform(depth_prob[None], ones, context, view_to_bev)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_gradient_of_the_volume(model):
    depth_prob, context, view_to_bev = lifted(model, fake_samples(1, **SIZES))
    volume = (depth_prob[:, None] * context[:, :, None]).requires_grad_()
    splat_volume(model.view_transform, volume, view_to_bev).sum().backward()
    assert set(volume.grad.unique().tolist()) == {0.0, 1.0}  # on the grid or not


def test_refines_each_row_along_depth_and_width():
    torch.manual_seed(0)
    refinement = DepthRefinement(channels=4).eval()
    depth_prob, context = torch.rand(2, 5, 3, 6), torch.rand(2, 4, 3, 6)
    before = refinement(depth_prob, context)
    assert before.shape == (2, 4, 5, 3, 6)
    context[0, :, 1, 3] += 1
    changed = (refinement(depth_prob, context) != before).any(dim=1)  # (V, D, h, w)
    assert not changed[1].any() and not changed[0, :, [0, 2]].any()
    assert changed[0, :, 1].all(dim=0)[2:5].all()


def test_labels_are_the_nearest_points_regardless_of_foreground(model):
    (sample,) = fake_samples(1, training=True, **SIZES)
    sample["gt_depth"] = torch.zeros(2, 3, 32, 64)
    sample["gt_depth"][0, 1, 3, 5], sample["gt_depth"][0, 1, 4, 5] = 20.0, 8.0
    sample["gt_foreground"] = torch.zeros(2, 3, 32, 64, dtype=torch.bool)
    sample["gt_foreground"][0, 1, 3, 5] = True
    labels, none = model.make_labels([sample])
    assert none is None and labels.known.nonzero().tolist() == [[1, 0, 0]]
    assert labels.distribution[1, :, 0, 0].nonzero().tolist() == [[8 - 1]]  # bins of 1 m from 1 m
    depth_prob = torch.full((3, model.depth_bins.count, 2, 4), 0.5)
    frame = FrameFeatures(ImageFeatures(torch.zeros(0)), depth_prob, torch.zeros(0), torch.zeros(0))
    (loss,) = model.image_losses(frame, labels, [sample]).values()
    assert loss.item() == pytest.approx(3 * model.depth_bins.count * math.log(2))


def test_model_without_refinement():
    model = build("model.depth_refinement=null", "model.grid.cell=7.0")
    losses = model(fake_samples(2, training=True, **SIZES))
    assert type(model) is BEVDepth and losses["loss_depth"] > 0


@pytest.fixture(scope="module")
def r50():
    """The model of the released weights, which has no refinement."""
    return build("model.depth_refinement=null", name="bevdepth_r50_cbgs")


def public_weights():
    """Returns fake tensors with the names of BEVDepth in BEVDet's code base and 112 depth bins."""
    final = "img_view_transformer.depth_net.depth_conv.4."
    last = {final + "weight": [112, 512, 1, 1], final + "bias": [112]}
    return fake_weights(bevdet_shapes() | last)


def test_public_weights_of_bevdets_code_base_fit(r50, tmp_path):
    weights = public_weights()
    torch.save({"state_dict": weights}, tmp_path / "public.pth")
    report = load_weights(r50, str(tmp_path / "public.pth"), strict=True)
    assert len(report.loaded) == len(weights)


def test_shared_parts_of_bevdepths_own_release_are_loaded(r50, tmp_path):
    """The report lists the necks, BEV encoder and last depth layers, which differ there."""
    prefixes = {"img_backbone.": "model.backbone.img_backbone."}
    prefixes["img_view_transformer.depth_net."] = "model.backbone.depth_net."
    prefixes |= {f"pts_bbox_head.{k}": f"model.head.{k}" for k in ("shared_conv.", "task_heads.")}
    weights = {
        new + name.removeprefix(old): value
        for name, value in public_weights().items()
        for old, new in prefixes.items()
        if name.startswith(old)
    }
    deformable = "model.backbone.depth_net.depth_conv.4.weight"
    weights[deformable] = torch.zeros(512, 128, 3, 3)
    weights["model.head.trunk.layer1.0.conv1.weight"] = torch.zeros(160, 80, 3, 3)
    torch.save({"state_dict": weights}, tmp_path / "own.ckpt")
    report = load_weights(r50, str(tmp_path / "own.ckpt"), strict=False)
    loaded = {name.split(".")[0] for name in report.loaded}
    assert loaded == {"backbone", "depth_net", "head"}
    assert list(report.mismatched) == ["depth_net.depth_conv.weight"]
    assert report.unexpected == ("model.head.trunk.layer1.0.conv1.weight",)
    missing = {name.split(".")[0] for name in report.missing}
    assert missing == {"neck", "temporal_stage", "bev_encoder"}
