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


def test_grid_that_does_not_halve_three_times():
    encoder = BEVEncoder(frame_channels=4, num_frames=1, out_channels=6)
    with pytest.raises(ValueError, match="20 x 16"):
        encoder(torch.randn(1, 4, 20, 16))
