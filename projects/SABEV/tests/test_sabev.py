"""The whole model, with the depth network of each scale."""

import pytest
import torch

from fsdbev.engine import StreamingPredictor
from fsdbev.modeling import META_ARCH_REGISTRY
from projects.SABEV.modeling import SABEV, CrossTaskHead, SemanticDepthNet
from projects.SABEV.modeling.sabev import TwoScaleFeatures

MODELS = ["sabev_r50", "sabev_r50_msct"]
TASK_LOSSES = {
    f"task{i}.loss_{of}" for i in range(6) for of in ("heatmap", "xy", "z", "dim", "yaw", "vel")
}
FINE = "model.depth_net.fine_mid_channels=4"


@pytest.fixture
def build(build_model):
    def build(name, *overrides):
        return build_model(name, *overrides, *([FINE] if "msct" in name else []))

    return build


def shake(model):
    """Statistics that are not those of a fresh model, so that evaluation depends on its input."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def test_registered():
    assert META_ARCH_REGISTRY.get("SABEV") is SABEV


@pytest.mark.parametrize(
    "name, network, size",
    [("sabev_r50", SemanticDepthNet, (2, 4)), ("sabev_r50_msct", CrossTaskHead, (4, 8))],
)
def test_pools_at_the_depth_network_s_finest_scale(build, make_sample, name, network, size):
    model = build(name)
    assert type(model.depth_net) is network
    image = model.extract_image_features(make_sample()["images"][None, 0])
    frame = model.perceive(image, torch.randn(1, 2, 27))
    assert frame.depth_prob.shape == (2, model.depth_bins.count, *size)
    assert frame.foreground.shape == (2, *size) and frame.context.shape == (2, 4, *size)
    labels, none = model.make_labels([make_sample()])
    assert labels.known.shape == (2, *size) and none is None


@pytest.mark.parametrize("name", MODELS)
def test_two_training_steps(build, make_sample, name):
    model = build(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    weights = {n: p.clone() for n, p in model.depth_net.named_parameters()}
    for _ in range(2):
        losses = model([make_sample(1), make_sample(2)])
        assert set(losses) == {"loss_depth", "loss_semantic"} | TASK_LOSSES
        assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        optimizer.step()
    assert [n for n, p in model.depth_net.named_parameters() if torch.equal(p, weights[n])] == []


@pytest.mark.parametrize("name", MODELS)
def test_evaluation(build, make_sample, name):
    model = shake(build(name))
    with torch.no_grad():
        first, second = model([make_sample(1), make_sample(2)])
        alone = model([make_sample(1)])[0]
    assert len(first["instances"]) > 10
    assert len(second["instances"].scores) == len(second["instances"].pred_boxes_3d)
    torch.testing.assert_close(
        first["instances"].scores.sort().values, alone["instances"].scores.sort().values
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_stream_finds_the_same_and_sees_each_frame_once(build, make_sample, name):
    model = shake(build(name))
    seen = []
    model.backbone.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    stream = StreamingPredictor(model)
    for number, views in ((1, 4), (2, 2), (3, 2)):
        sample = make_sample(number)
        with torch.no_grad():
            expected = model([sample])[0]["instances"]
        seen.clear()
        found = stream([sample])[0]["instances"]
        assert sum(seen) == views
        assert torch.equal(found.pred_boxes_3d.tensor, expected.pred_boxes_3d.tensor)
        assert torch.equal(found.scores, expected.scores)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_hardly_foreground_is_not_pooled(build, make_sample, name):
    """Only views that are foreground with 0.25 or more leave anything in BEV."""
    model = shake(build(name))
    layers = {n.split(".")[-1]: m for n, m in model.depth_net.named_modules()}  # the last of a name
    pooled = []
    model.view_transform.register_forward_hook(lambda module, args, bev: pooled.append(bev))
    with torch.no_grad():
        for layer in (layers["semantic_conv"], layers["depth_conv"]):
            layer.weight.zero_()
            layer.bias.zero_()
        layers["depth_conv"].bias[:5] = 1.0  # near the camera, in the grid
        for probability in (0.24, 0.26):
            layers["semantic_conv"].bias.copy_(torch.tensor([1 - probability, probability]).log())
            model([make_sample()])
    assert [bev.any().item() for bev in pooled] == [False, False, True, True]


def test_thresholds_of_the_release(build):
    view_transform = build("sabev_r50").view_transform
    assert view_transform.foreground_threshold == 0.25
    assert view_transform.depth_threshold == 1 / view_transform.depth_bins.count


def test_a_wrong_stride_is_named(build, make_sample):
    model = build("sabev_r50_msct", "model.stride=16")
    with pytest.raises(ValueError, match="model.stride"):
        model([make_sample()])


def test_needs_a_depth_network_that_segments(build):
    with pytest.raises(ValueError, match="SemanticDepthNet or CrossTaskHead, got DepthNet"):
        build("sabev_r50", "model.depth_net.name=DepthNet")


def test_the_fine_map_of_a_stream_goes_where_its_features_go(build, make_sample):
    model = shake(build("sabev_r50_msct"))
    images = torch.stack([make_sample(n)["images"][0] for n in (1, 2)])
    with torch.no_grad():
        both = model.extract_image_features(images)
    assert both.fine.shape[-2:] == tuple(2 * size for size in both.features.shape[-2:])
    parts = both.chunk(2)
    assert torch.equal(parts[1].fine, both.fine[2:])
    assert torch.equal(TwoScaleFeatures.cat(parts).fine, both.fine)
