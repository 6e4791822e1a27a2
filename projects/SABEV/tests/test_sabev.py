"""The whole model with either depth network."""

from dataclasses import replace

import pytest
import torch

from fsdbev.d2.config import instantiate
from fsdbev.modeling import META_ARCH_REGISTRY
from projects.SABEV import SABEV, CrossTaskHead, SemanticDepthNet
from projects.SABEV.modeling.sabev import TwoScaleFeatures

MODELS = ["sabev_tiny_synthetic", "sabev_msct_tiny_synthetic"]
TASK_LOSSES = {
    f"task{i}.loss_{of}" for i in range(6) for of in ("heatmap", "xy", "z", "dim", "yaw", "vel")
}


def test_registered():
    assert META_ARCH_REGISTRY.get("SABEV") is SABEV


@pytest.mark.parametrize(
    "name, network, size",
    [(MODELS[0], SemanticDepthNet, (2, 4)), (MODELS[1], CrossTaskHead, (4, 8))],
)
def test_pools_at_the_finest_scale_of_the_depth_network(build, samples, name, network, size):
    model = build(name)
    assert type(model.depth_net) is network
    image = model.extract_image_features(samples[0]["images"][0])
    frame = model.predict_depth(image, torch.randn(2, 27))
    assert frame.depth_prob.shape == (2, model.depth_bins.count, *size)
    assert frame.foreground.shape == (2, *size) and frame.context.shape == (2, 16, *size)
    labels, none = model.make_labels(samples[:1])
    assert labels.known.shape == (2, *size) and none is None


@pytest.mark.parametrize("name", MODELS)
def test_two_training_steps_with_pasted_bev(build, load, samples, name):
    model = build(name)
    model.bev_paste = instantiate(load("sabev_r50").model.bev_paste)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    weights = {n: p.clone() for n, p in model.depth_net.named_parameters()}
    for _ in range(2):
        losses = model(samples)
        assert set(losses) == {"loss_depth", "loss_semantic"} | TASK_LOSSES
        assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert [n for n, p in model.depth_net.named_parameters() if torch.equal(p, weights[n])] == []


def test_losses_are_scaled_by_their_weights(build, samples):
    other = ("model.depth_loss_weight=6.0", "model.semantic_loss_weight=5.0")
    first, second = build(MODELS[0])(samples), build(MODELS[0], *other)(samples)
    torch.testing.assert_close(second["loss_depth"], 2 * first["loss_depth"])
    torch.testing.assert_close(second["loss_semantic"], first["loss_semantic"] / 5)


@pytest.mark.parametrize("name", MODELS)
def test_pixels_below_the_foreground_threshold_are_not_pooled(build, samples, name):
    """The BEV map is empty for a foreground probability below 0.25."""
    model = build(name).eval()
    pooled = []
    model.view_transform.register_forward_hook(lambda module, args, bev: pooled.append(bev.any()))
    for probability in (0.24, 0.26):
        handle = model.depth_net.register_forward_hook(
            lambda module, args, output, p=probability: replace_semantics(output, p)
        )
        with torch.no_grad():
            model(samples[:1])
        handle.remove()
    assert [any_.item() for any_ in pooled] == [False, False, True, True]


def replace_semantics(prediction, probability):
    """Returns a copy in which every cell is foreground with ``probability``."""
    logits = prediction.scales[-1]
    semantic = torch.tensor([1 - probability, probability]).log().view(1, 2, 1, 1)
    logits = replace(logits, semantic=semantic.expand_as(logits.semantic))
    return replace(prediction, scales=(*prediction.scales[:-1], logits))


def test_split_and_cat_include_the_fine_map(build, samples):
    """A stream splits and joins batches of features."""
    model = build(MODELS[1]).eval()
    with torch.no_grad():
        both = model.extract_image_features(torch.cat([s["images"][0] for s in samples]))
    assert both.fine.shape[-2:] == tuple(2 * size for size in both.features.shape[-2:])
    parts = both.split([2, 2])
    assert torch.equal(parts[1].fine, both.fine[2:])
    assert torch.equal(TwoScaleFeatures.cat(parts).fine, both.fine)


def test_error_for_a_wrong_stride(build, samples):
    model = build(MODELS[1], "model.stride=16")
    with pytest.raises(ValueError, match="model.stride"):
        model(samples)


def test_requires_a_depth_network_with_segmentation(build):
    with pytest.raises(ValueError, match="SemanticDepthNet or CrossTaskHead, got DepthNet"):
        build(MODELS[0], "model.depth_net.name=DepthNet")
