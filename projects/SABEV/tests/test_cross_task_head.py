import pytest
import torch

from fsdbev.structures import DepthBins
from projects.SABEV.modeling import CrossTaskHead

BINS = DepthBins(step=10.0)  # 6 bins


@pytest.fixture
def head():
    torch.manual_seed(0)
    return CrossTaskHead(
        in_channels=6,
        backbone_channels=[3, 7, 9, 11],
        mid_channels=8,
        fine_mid_channels=4,
        context_channels=5,
        depth_bins=BINS,
        aspp_channels=4,
    )


def image_maps(views=6, size=(4, 11)):
    height, width = size
    return torch.randn(views, 6, height, width), torch.randn(views, 7, 2 * height, 2 * width)


def test_depth_and_semantics_at_both_scales_and_context_at_the_finer(head):
    prediction = head(*head.embed(*image_maps()), torch.randn(6, 27))
    coarse, fine = prediction.scales
    assert coarse.depth.shape == (6, 6, 4, 11) and coarse.semantic.shape == (6, 2, 4, 11)
    assert fine.depth.shape == (6, 6, 8, 22) and fine.semantic.shape == (6, 2, 8, 22)
    assert prediction.context.shape == (6, 5, 8, 22)


def test_pooling_uses_the_finer_scale(head):
    prediction = head(*head.embed(*image_maps()), torch.randn(6, 27))
    assert prediction.depth_prob.shape == (6, 6, 8, 22)
    assert torch.equal(prediction.depth_prob, prediction.scales[1].depth.softmax(dim=1))
    assert torch.equal(prediction.foreground, prediction.scales[1].semantic.softmax(dim=1)[:, 1])


def test_embedding_is_the_output_of_the_image_layers(head):
    features, fine = image_maps()
    embedded = head.eval().embed(features, fine)
    layers = [head.get_submodule(name) for name in head.image_layers]
    for output, layer, x in zip(embedded, layers, (features, fine), strict=True):
        assert torch.equal(output, layer(x))


def test_each_view_depends_on_its_own_camera_only(head):
    maps, cameras = head.eval().embed(*image_maps()), torch.randn(6, 27)
    changed = cameras.clone()
    changed[3] += 1
    before, after = head(*maps, cameras), head(*maps, changed)
    for a, b in (
        (before.scales[0].depth, after.scales[0].depth),
        (before.scales[1].semantic, after.scales[1].semantic),
        (before.context, after.context),
    ):
        same = [torch.equal(x, y) for x, y in zip(a, b, strict=True)]
        assert same == [True, True, True, False, True, True]


def test_tasks_depend_on_each_other(head):
    depth, semantic = torch.randn(2, 2, 8, 4, 4).unbind()
    other = torch.randn(2, 8, 4, 4)
    new_depth, new_semantic = head.exchange(depth, semantic)
    assert not torch.equal(new_depth, head.exchange(depth, other)[0])
    assert not torch.equal(new_semantic, head.exchange(other, semantic)[1])


def test_float32_under_autocast(head):
    head.eval()
    maps, cameras = [x.bfloat16() for x in image_maps(views=2)], torch.randn(2, 27)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = head(*head.embed(*maps), cameras)
    outside = head(*head.embed(*(x.float() for x in maps)), cameras)
    assert inside.context.dtype == inside.scales[0].depth.dtype == torch.float32
    torch.testing.assert_close(inside.context, outside.context, rtol=0, atol=0)


def test_maps_must_be_of_strides_16_and_8(head):
    features, fine = image_maps()
    with pytest.raises(ValueError, match=r"\(4, 11\) and \(7, 22\).*multiples of 16"):
        head.embed(features, fine[..., :7, :])
