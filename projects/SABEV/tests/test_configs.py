"""Settings of the configs compared with the release."""

import pytest
import torch

from fsdbev.checkpoint import to_our_names, to_release_names
from fsdbev.d2.config import instantiate

STRIDES = {"sabev_r50": 16, "sabev_r50_msct": 8, "sabev_r50_msct_cbgs": 8}


@pytest.mark.parametrize("name, stride", STRIDES.items())
def test_settings_of_the_release(load, name, stride):
    cfg = load(name)
    model = cfg.model
    assert (model.depth_net.aspp_channels, model.stride, model.num_frames) == (512, stride, 2)
    assert (model.depth_loss_weight, model.semantic_loss_weight) == (3, 25)
    assert instantiate(model.grid).shape == (128, 128)
    view_transform = instantiate(model.view_transform)
    assert view_transform.foreground_threshold == 0.25
    assert view_transform.depth_threshold == 1 / 118
    to_input = 704 / 1600
    resize = [to_input * scale for scale in cfg.dataloader.image_aug.scale]
    assert resize == pytest.approx([to_input - 0.06, to_input + 0.11])
    assert not cfg.dataloader.image_aug.scale_depth
    assert not cfg.dataloader.frame_combination and not cfg.dataloader.pseudo_points
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay) == (2e-4, 1e-2)


@pytest.mark.parametrize(
    "name, class_balanced, epochs, samples",
    [
        ("sabev_r50", False, 24, 28130),
        ("sabev_r50_msct", False, 24, 28130),
        ("sabev_r50_msct_cbgs", True, 20, 123580),
    ],
)
def test_schedule_of_the_release(load, name, class_balanced, epochs, samples):
    cfg = load(name)
    assert cfg.dataloader.train.class_balanced == class_balanced
    assert cfg.dataloader.train.total_batch_size == 32
    assert cfg.train.max_iter * 32 == pytest.approx(epochs * samples, rel=1e-4)


def test_the_cross_task_head_takes_the_backbone_s_channels(load):
    cfg = load("sabev_r50_msct")
    assert instantiate(cfg.model.depth_net).fine_reduce[0].in_channels == 512
    cfg.model.backbone.merge_with({"depth": 18, "width": 16})
    assert instantiate(cfg.model.depth_net).fine_reduce[0].in_channels == 32


def test_published_weights_have_these_names_and_shapes(load):
    """For the model without cross-task head."""
    with torch.device("meta"):
        weights = instantiate(load("sabev_r50").model).state_dict()
    released = to_release_names(weights)
    depth_conv = "img_view_transformer.depth_net.depth_conv"
    assert released[f"{depth_conv}.4.weight"].shape == (118 + 2, 512, 1, 1)
    assert released[f"{depth_conv}.3.conv1.weight"].shape == (512, 5 * 512, 1, 1)
    assert to_our_names(released).keys() == weights.keys()
