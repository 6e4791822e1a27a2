"""BEV encoder: shapes, channels, batch norm momentum."""

import pytest
import torch

from fsdbev.modeling import BEVEncoder
from fsdbev.modeling.backbone import ResNet


def test_shapes():
    encoder = BEVEncoder(frame_channels=4, num_frames=3, width=3, out_channels=6)
    assert encoder(torch.randn(2, 12, 16, 24)).shape == (2, 6, 16, 24)
    assert [s[0].conv1.weight.shape[:2] for s in encoder.stages] == [(6, 12), (12, 6), (24, 12)]


@pytest.mark.parametrize(
    "module",
    [
        BEVEncoder(frame_channels=4, num_frames=1, bn_momentum=0.01),
        ResNet(depth=18, width=4, bn_momentum=0.01),
    ],
    ids=["BEV encoder", "ResNet"],
)
def test_momentum_reaches_every_norm(module):
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) >= 15 and {m.momentum for m in norms} == {0.01}


def test_a_grid_that_does_not_halve_three_times_is_refused_with_the_nearest(build_model):
    """Cells of 0.8 m make 100 cells of the range; the error came at the first batch before."""
    ahead = ["model.grid.x_range=[0.0,80.0]", "model.grid.y_range=[-32.0,32.0]"]
    ahead.append("model.bev_paste.flip_prob=[0.0,0.5]")
    message = r"x_range \[0.0, 80.0\] has 100 cells of 0.8 m.*multiple of 8.*is \[0.0, 83.2\]"
    with pytest.raises(ValueError, match=message):
        build_model("model.grid.cell=0.8", *ahead)
    assert build_model("model.grid.cell=1.0", *ahead).grid.shape == (64, 80)


def test_a_grid_beyond_the_depth_bins_is_a_warning(build_model, caplog):
    build_model("model.grid.x_range=[-102.4,102.4]", "model.depth_bins.stop=41.0")
    assert "model.grid reaches 102.4 m, but model.depth_bins end at 41 m" in caplog.text
    caplog.clear()
    build_model()
    assert "depth_bins" not in caplog.text


def test_bev_paste_must_not_flip_a_range_that_is_not_symmetric(build_model):
    with pytest.raises(ValueError, match=r"model.bev_paste.flip_prob flips x.*to \[0.0, 0.5\]"):
        build_model("model.grid.x_range=[0.0,102.4]")
