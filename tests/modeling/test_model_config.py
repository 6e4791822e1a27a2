"""The model config states every size once: one override changes every part that uses it."""

import pytest
import torch

from fsdbev.d2.config import instantiate
from fsdbev.modeling import FSDBEV


def build(config):
    with torch.device("meta"):
        return instantiate(config.model)


def test_default_is_the_papers_r50(load_config):
    model = build(load_config())
    assert isinstance(model, FSDBEV)
    assert model.depth_bins.count == 118 and model.grid.shape == (128, 128)
    assert model.teacher_fill == "paper" and model.bev_paste is not None
    assert model.bev_encoder.neck.merge[0].in_channels == 800


@pytest.mark.parametrize(
    ("override", "reaches"),
    [
        ("grid.cell=0.4", lambda m: (m.view_transform.grid.cell, m.head.grid.cell) == (0.4, 0.4)),
        ("depth_bins.step=0.25", lambda m: m.depth_net.depth_conv.out_channels == 236),
        ("backbone.width=8", lambda m: m.neck.lateral_convs[3].in_channels == 256),
        ("backbone.depth=18", lambda m: m.neck.lateral_convs[3].in_channels == 512),
        ("neck.out_channels=32", lambda m: m.depth_net.reduce[0].in_channels == 32),
        ("neck.out_channels=32", lambda m: m.msfe.heatmap_head[2].in_channels == 32),
        ("depth_net.mid_channels=32", lambda m: m.depth_net.depth_conv.in_channels == 32),
        ("depth_net.context_channels=8", lambda m: m.temporal_stage.stage[1].bn2.num_features == 8),
        ("depth_net.context_channels=8", lambda m: m.bev_encoder.neck.merge[0].in_channels == 80),
        ("bev_encoder.width=8", lambda m: m.bev_encoder.neck.merge[0].in_channels == 80),
        ("bev_encoder.out_channels=32", lambda m: m.head.shared_conv.conv.in_channels == 32),
        ("head.shared_channels=8", lambda m: m.head.shared_conv.conv.out_channels == 8),
        ("num_frames=4", lambda m: m.bev_encoder.stages[0][0].conv1.in_channels == 320),
        ("teacher_fill=release", lambda m: m.teacher_fill == "release"),
        ("bev_paste=null", lambda m: m.bev_paste is None),
        ("backbone.activation_checkpoint=True", lambda m: m.backbone.activation_checkpoint),
    ],
)
def test_one_override(load_config, override, reaches):
    assert reaches(build(load_config(f"model.{override}")))
