"""Feature pyramid network."""

import pytest
import torch

from fsdbev.modeling.backbone import FPN


def identity_fpn(**arguments):
    """Returns an FPN whose convolutions are identities."""
    fpn = FPN(in_channels=(1, 1, 1, 1), out_channels=1, **arguments)
    for conv in fpn.lateral_convs:
        conv.weight.data.fill_(1)
    for conv in fpn.output_convs:
        conv.weight.data.zero_()
        conv.weight.data[0, 0, 1, 1] = 1
    return fpn


def test_adds_nearest_upsampled_coarser_maps():
    features = [torch.full((1, 1, 8 // 2**i, 16 // 2**i), 10.0**i) for i in range(4)]
    features[3][..., 1] = 2000
    f4, f8, f16 = identity_fpn()(features)
    assert f16.flatten().tolist() == [1100, 1100, 2100, 2100] * 2
    assert f8[0, 0, 0].tolist() == [1110] * 4 + [2110] * 4
    assert f4[0, 0, 0].tolist() == [1111] * 8 + [2111] * 8


def test_sizes_that_do_not_halve_evenly():
    features = [torch.rand(1, 1, h, w) for h, w in ((12, 22), (6, 11), (3, 6), (2, 3))]
    assert [tuple(f.shape[-2:]) for f in identity_fpn()(features)] == [(12, 22), (6, 11), (3, 6)]


def test_initialisation():
    torch.manual_seed(0)
    fpn = FPN(in_channels=(8, 16, 32, 64), out_channels=32)
    for conv in [*fpn.lateral_convs, *fpn.output_convs]:
        fan_out, fan_in = conv.weight.shape[:2]
        bound = (6 / ((fan_in + fan_out) * conv.weight[0, 0].numel())) ** 0.5
        assert 0.9 * bound < conv.weight.abs().max() <= bound
        assert not conv.bias.any()


def test_wrong_number_of_maps():
    with pytest.raises(ValueError, match="takes 4 maps, got 3"):
        identity_fpn()([torch.zeros(1, 1, 4, 4)] * 3)


def test_finest_maps_can_be_left_out():
    features = [torch.full((1, 1, 8 // 2**i, 16 // 2**i), 10.0**i) for i in range(4)]
    fpn = identity_fpn(skip_finest=2)
    (f16,) = fpn(features)
    torch.testing.assert_close(f16, identity_fpn()(features)[2])
    assert len(fpn.lateral_convs) == 2 and len(fpn.output_convs) == 1
    with pytest.raises(ValueError, match="leave two of the 4 maps, got 3"):
        identity_fpn(skip_finest=3)
