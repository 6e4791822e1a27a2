"""Depth networks: outputs, camera parameters, dropout."""

import torch

from fsdbev.modeling import DepthNet, PixelDepthNet
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
    depth_prob, context = net(embedded, torch.randn(6, 27))
    assert depth_prob.shape == (6, 6, 4, 11) and context.shape == (6, 5, 4, 11)
    torch.testing.assert_close(depth_prob.sum(dim=1), torch.ones(6, 4, 11))


def test_each_view_depends_on_its_own_camera():
    net = depth_net().eval()
    embedded, cameras = torch.randn(6, 8, 4, 11), torch.randn(6, 27)
    changed = cameras.clone()
    changed[3] += 1
    before, after = net(embedded, cameras), net(embedded, changed)
    for a, b in zip(before, after, strict=True):
        assert [not torch.equal(x, y) for x, y in zip(a, b, strict=True)] == [
            False, False, False, True, False, False,
        ]  # fmt: skip


def test_dropout_only_in_training():
    net = depth_net(dropout=0.5)
    embedded, cameras = torch.randn(2, 8, 4, 4), torch.randn(2, 27)
    first, second = net.eval()(embedded, cameras), net(embedded, cameras)
    assert torch.equal(first[0], second[0])
    first, second = net.train()(embedded, cameras), net(embedded, cameras)
    assert not torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def pixel_depth_net():
    torch.manual_seed(0)
    return PixelDepthNet(in_channels=6, context_channels=5, depth_bins=DepthBins(step=10.0))


def test_pixel_depth_net_computes_each_pixel_by_itself():
    net = pixel_depth_net()
    features = torch.randn(3, 6, 4, 11)
    depth_prob, context = net(net.embed(features), torch.randn(3, 27))
    assert depth_prob.shape == (3, 6, 4, 11) and context.shape == (3, 5, 4, 11)
    torch.testing.assert_close(depth_prob.sum(dim=1), torch.ones(3, 4, 11))
    features[1, :, 2, 7] += 1
    changed = net(net.embed(features), torch.randn(3, 27))
    for before, after in zip((depth_prob, context), changed, strict=True):
        different = (before != after).any(dim=1)
        assert different.nonzero().tolist() == [[1, 2, 7]]


def test_pixel_depth_net_has_depth_before_context():
    net = pixel_depth_net()
    with torch.no_grad():
        net.conv.weight.zero_()
        net.conv.bias.copy_(torch.cat([torch.tensor([9.0, 0, 0, 0, 0, 0]), torch.arange(5.0)]))
    depth_prob, context = net(net.embed(torch.randn(1, 6, 2, 2)), torch.zeros(1, 27))
    assert (depth_prob.argmax(dim=1) == 0).all()
    assert (context[0, :, 0, 0] == torch.arange(5.0)).all()
