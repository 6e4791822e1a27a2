"""Parts that compute in float32 under autocast."""

import pytest
import torch

from fsdbev.modeling import BEVEncoder, DepthNet, PixelDepthNet, TemporalStage
from fsdbev.modeling.msfe import heatmap_loss
from fsdbev.modeling.precision import full_precision
from fsdbev.structures import DepthBins


@full_precision
def product(a, others, scale=None):
    return a @ others[0] * (1 if scale is None else scale)


def test_disables_autocast_and_casts_tensors_to_float32():
    a, b = torch.randn(4, 4), torch.randn(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ b).dtype == torch.bfloat16
        inside = product(a.bfloat16(), [b], scale=torch.ones((), dtype=torch.bfloat16))
        assert (a @ b).dtype == torch.bfloat16  # autocast is enabled again
    torch.testing.assert_close(inside, a.bfloat16().float() @ b, rtol=0, atol=0)


def test_float64_stays():
    a = torch.randn(2, 2, dtype=torch.float64)
    assert product(a, [a]).dtype == torch.float64


def test_gradients_flow_through_the_cast():
    a = torch.randn(2, 2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product(a.bfloat16(), [torch.eye(2)]).sum().backward()
    assert torch.equal(a.grad, torch.ones(2, 2))


def depth_net(features, cameras):
    torch.manual_seed(0)
    net = DepthNet(
        in_channels=4, mid_channels=8, context_channels=5, depth_bins=DepthBins(step=10.0)
    )
    return net.eval()(net.embed(features), cameras)[0]


def pixel_depth_net(features, cameras):
    torch.manual_seed(0)
    net = PixelDepthNet(in_channels=4, context_channels=5, depth_bins=DepthBins(step=10.0))
    return net.embed(features)


@pytest.mark.parametrize(
    ("part", "shapes"),
    [
        (TemporalStage(channels=4).eval(), [(2, 4, 8, 8)]),
        (BEVEncoder(frame_channels=4, num_frames=1).eval(), [(2, 4, 8, 8)]),
        (depth_net, [(2, 4, 4, 4), (2, 27)]),
        (pixel_depth_net, [(2, 4, 4, 4), (2, 27)]),
        (heatmap_loss, [(1, 2, 4, 4), (1, 2, 4, 4)]),
    ],
    ids=["temporal stage", "BEV encoder", "depth net", "pixel depth net", "heatmap loss"],
)
def test_float32_under_autocast(part, shapes):
    inputs = [torch.rand(shape) for shape in shapes]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = part(*inputs)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, part(*inputs), rtol=0, atol=0)
