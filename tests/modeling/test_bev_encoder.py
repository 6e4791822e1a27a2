import pytest
import torch

from fsdbev.modeling import BEVEncoder, TemporalStage


@pytest.mark.parametrize("num_frames", [1, 3])
def test_shapes(num_frames):
    encoder = BEVEncoder(frame_channels=4, num_frames=num_frames, out_channels=6)
    assert encoder(torch.randn(2, 4 * num_frames, 16, 24)).shape == (2, 6, 16, 24)


def test_width_is_of_its_own_where_given():
    encoder = BEVEncoder(frame_channels=4, num_frames=2, width=3, out_channels=6)
    assert [s[0].conv1.weight.shape[:2] for s in encoder.stages] == [(6, 8), (12, 6), (24, 12)]
    assert encoder.neck.merge[0].in_channels == 6 + 24


def test_first_shortcut_is_a_biased_convolution_without_norm():
    stage = TemporalStage(channels=4).stage
    assert isinstance(stage[0].downsample, torch.nn.Conv2d)
    assert stage[0].downsample.kernel_size == (3, 3) and stage[0].downsample.bias is not None
    assert stage[1].downsample is None


def test_momentum_reaches_every_norm():
    encoder = BEVEncoder(frame_channels=4, num_frames=1, out_channels=6, bn_momentum=0.01)
    norms = [m for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 12 + 3 and {m.momentum for m in norms} == {0.01}


def test_grid_that_does_not_halve_three_times():
    encoder = BEVEncoder(frame_channels=4, num_frames=1, out_channels=6)
    with pytest.raises(ValueError, match="20 x 16"):
        encoder(torch.randn(1, 4, 20, 16))


@pytest.mark.parametrize(
    "module", [TemporalStage(channels=4), BEVEncoder(frame_channels=4, num_frames=1)]
)
def test_float32_under_autocast(module):
    bev, module = torch.randn(2, 4, 8, 8), module.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = module(bev)
    torch.testing.assert_close(inside, module(bev), rtol=0, atol=0)
