import torch

from fsdbev.modeling import DepthNet
from fsdbev.structures import DepthBins


def depth_net(**kwargs):
    torch.manual_seed(0)
    return DepthNet(
        in_channels=6,
        mid_channels=8,
        context_channels=5,
        depth_bins=DepthBins(step=10.0),
        aspp_channels=4,
        **kwargs,
    )


def test_probability_and_context():
    net = depth_net().eval()
    embedded = net.embed(torch.randn(6, 6, 4, 11))
    assert embedded.shape == (6, 8, 4, 11)
    depth_prob, context = net(embedded, torch.randn(2, 3, 27))
    assert depth_prob.shape == (6, 6, 4, 11) and context.shape == (6, 5, 4, 11)
    torch.testing.assert_close(depth_prob.sum(dim=1), torch.ones(6, 4, 11))


def test_each_view_listens_to_its_own_camera():
    net = depth_net().eval()
    embedded, cameras = torch.randn(6, 8, 4, 11), torch.randn(2, 3, 27)
    changed = cameras.clone()
    changed[1, 0] += 1
    before, after = net(embedded, cameras), net(embedded, changed)
    for a, b in zip(before, after, strict=True):
        assert [not torch.equal(x, y) for x, y in zip(a, b, strict=True)] == [
            False, False, False, True, False, False,
        ]  # fmt: skip


def test_float32_under_autocast():
    net = depth_net().eval()
    features, cameras = torch.randn(2, 6, 4, 4), torch.randn(1, 2, 27)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = net(net.embed(features.bfloat16()), cameras)
    outside = net(net.embed(features.bfloat16().float()), cameras)
    for a, b in zip(inside, outside, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_dropout_only_in_training():
    net = depth_net(dropout=0.5)
    embedded, cameras = torch.randn(2, 8, 4, 4), torch.randn(1, 2, 27)
    first, second = net.eval()(embedded, cameras), net(embedded, cameras)
    assert torch.equal(first[0], second[0])
    first, second = net.train()(embedded, cameras), net(embedded, cameras)
    assert not torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
