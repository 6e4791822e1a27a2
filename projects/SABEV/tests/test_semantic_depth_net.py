import pytest
import torch

from fsdbev.modeling import DepthNet
from fsdbev.structures import DepthBins
from projects.SABEV.modeling import SemanticDepthNet, task_losses

BINS = DepthBins(step=10.0)  # 6 bins


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SemanticDepthNet(
        in_channels=6, mid_channels=8, context_channels=5, depth_bins=BINS, aspp_channels=4
    )


def test_depth_semantics_and_context(net):
    embedded = net.embed(torch.randn(6, 6, 4, 11))
    assert embedded.shape == (6, 8, 4, 11)
    prediction = net(embedded, torch.randn(6, 27))
    (logits,) = prediction.scales
    assert logits.depth.shape == (6, 6, 4, 11) and logits.semantic.shape == (6, 2, 4, 11)
    assert prediction.context.shape == (6, 5, 4, 11)


def test_depth_and_semantics_have_separate_softmaxes(net):
    prediction = net.eval()(net.embed(torch.randn(2, 6, 4, 4)), torch.randn(2, 27))
    torch.testing.assert_close(prediction.depth_prob.sum(dim=1), torch.ones(2, 4, 4))
    background, foreground = prediction.scales[0].semantic.unbind(dim=1)
    torch.testing.assert_close(prediction.foreground, (foreground - background).sigmoid())


def test_depth_and_context_equal_those_of_depth_net(net):
    plain = DepthNet(
        in_channels=6, mid_channels=8, context_channels=5, depth_bins=BINS, aspp_channels=4
    )
    weights = net.state_dict()
    assert list(weights) == list(plain.state_dict())
    shared = {n: w[:6] if n.startswith("depth_conv") else w for n, w in weights.items()}
    plain.load_state_dict(shared)
    embedded, cameras = torch.randn(2, 8, 4, 4), torch.randn(2, 27)
    depth_prob, context = plain.eval()(embedded, cameras)
    prediction = net.eval()(embedded, cameras)
    torch.testing.assert_close(prediction.depth_prob, depth_prob)
    torch.testing.assert_close(prediction.context, context)


def test_semantic_loss_has_gradients_in_shared_layers(net, random_labels):
    prediction = net(net.embed(torch.randn(4, 6, 4, 6)), torch.randn(4, 27))
    task_losses(prediction.scales, random_labels((4, 6), BINS))[1].backward()
    assert net.reduce[0].weight.grad.any() and net.aspp.project[0].weight.grad.any()
    of_depth, of_semantics = net.depth_conv.weight.grad.tensor_split([6])
    assert not of_depth.any() and of_semantics.any()


def test_float32_under_autocast(net):
    net.eval()
    features, cameras = torch.randn(2, 6, 4, 4).bfloat16(), torch.randn(2, 27)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = net(net.embed(features), cameras)
    outside = net(net.embed(features.float()), cameras)
    assert inside.foreground.dtype == inside.depth_prob.dtype == torch.float32
    torch.testing.assert_close(inside.foreground, outside.foreground, rtol=0, atol=0)
