"""The common model with few parts: training, foreground, given image features."""

import pytest
import torch

from fsdbev.modeling import ImageFeatures, LiftSplatDetector

COMMON = "common/models/lift_splat_r50.py"
FEW_PARTS = ["model.num_frames=1", "model.temporal_stage=null"]


def test_trains_with_labels_of_boxes_only(build_model, make_samples):
    model = build_model(*FEW_PARTS, file=COMMON)
    assert type(model) is LiftSplatDetector and model.msfe is None and model.bev_paste is None
    samples = make_samples(num_frames=1, training=True)
    for sample in samples:
        del sample["gt_depth"], sample["gt_foreground"], sample["gt_heatmap"]
    losses = model(samples)
    assert {name.split(".")[0] for name in losses} == {f"task{i}" for i in range(6)}
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_every_pixel_is_foreground_without_a_foreground_branch(build_model, make_samples):
    model = build_model(*FEW_PARTS, file=COMMON).eval()
    images = model.stack_images(make_samples(num_frames=1))[0]
    image = model.extract_image_features(images)
    assert image.foreground is None and image.logits is None
    frame = model.predict_depth(image, torch.randn(4, 27))
    assert frame.foreground.shape == (4, 2, 4) and frame.foreground.unique().tolist() == [1.0]


def test_given_image_features_are_used(build_model, make_samples):
    model = build_model(*FEW_PARTS, "model.head.score_threshold=0.0", file=COMMON).eval()
    samples = make_samples(batch_size=1, num_frames=1)
    image = model.extract_image_features(model.stack_images(samples)[0])
    computed, given = model(samples), model(samples, image_features=[image])
    other = model(samples, image_features=[ImageFeatures(torch.zeros_like(image.features))])
    scores = [found[0]["instances"].scores for found in (computed, given, other)]
    assert torch.equal(scores[0], scores[1]) and not torch.equal(scores[0], scores[2])


def test_image_size_of_detections_is_that_of_the_network_image(build_model, make_samples):
    model = build_model(*FEW_PARTS, "model.head.score_threshold=0.0", file=COMMON).eval()
    samples = make_samples(num_frames=1, training=True)
    for sample, output in zip(samples, model(samples), strict=True):
        found = output["instances"]
        assert found.image_size == sample["instances"].image_size == sample["images"].shape[-2:]
        assert len(found) == len(found.scores) == len(found.pred_boxes_3d) > 0


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        (COMMON, ("backbone", "neck", "depth_net.reduce")),
        ("common/models/fsdbev_r50.py", ("backbone", "neck", "msfe", "depth_net.reduce")),
    ],
)
def test_parts_of_the_image_branch(build_model, file, parts):
    model = build_model(file=file)
    assert model.image_branch == parts
    assert all(model.get_submodule(name) is not None for name in parts)
