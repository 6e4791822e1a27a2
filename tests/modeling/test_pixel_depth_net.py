import torch

from fsdbev.modeling import PixelDepthNet
from fsdbev.structures import DepthBins


def pixel_depth_net():
    torch.manual_seed(0)
    return PixelDepthNet(in_channels=6, context_channels=5, depth_bins=DepthBins(step=10.0))


def test_probability_and_context_of_each_pixel_alone():
    net = pixel_depth_net()
    features = torch.randn(3, 6, 4, 11)
    depth_prob, context = net(net.embed(features), torch.randn(1, 3, 27))
    assert depth_prob.shape == (3, 6, 4, 11) and context.shape == (3, 5, 4, 11)
    torch.testing.assert_close(depth_prob.sum(dim=1), torch.ones(3, 4, 11))
    features[1, :, 2, 7] += 1
    changed = net(net.embed(features), torch.randn(1, 3, 27))
    for before, after in zip((depth_prob, context), changed, strict=True):
        different = (before != after).any(dim=1)
        assert different.nonzero().tolist() == [[1, 2, 7]]


def test_depth_comes_before_context_in_the_convolution():
    net = pixel_depth_net()
    with torch.no_grad():
        net.conv.weight.zero_()
        net.conv.bias.copy_(torch.cat([torch.tensor([9.0, 0, 0, 0, 0, 0]), torch.arange(5.0)]))
    depth_prob, context = net(net.embed(torch.randn(1, 6, 2, 2)), torch.zeros(1, 1, 27))
    assert (depth_prob.argmax(dim=1) == 0).all()
    assert (context[0, :, 0, 0] == torch.arange(5.0)).all()


def test_float32_under_autocast():
    net, features = pixel_depth_net(), torch.randn(2, 6, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = net.embed(features)
    assert inside.dtype == torch.float32 and torch.equal(inside, net.embed(features))
