"""At full size, too, the published models compute what the public release computed (README.md).

Minutes in all; the training step of two samples takes some 14 GB of memory.
"""

import numpy as np
import pytest
import torch
from full_size import FullSizeCase, sampled
from small_model import record, relative_error, samples
from training_step import our_losses

from fsdbev.checkpoint.release import our_name

R50 = FullSizeCase("r50", 50, "fsdbev_r50_cbgs.py")
R101 = FullSizeCase("r101", 101, "fsdbev_r101_cbgs.py")
R50_TRAINING = FullSizeCase("r50_train", 50, "fsdbev_r50_cbgs.py")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[R50, R101], ids=lambda case: case.name)
def evaluation(request):
    model = request.param.load_model().eval()
    outputs = record(model, "msfe", "depth_net", "view_transform", "bev_encoder", "head")
    with torch.no_grad():
        outputs["detections"] = model(samples(request.param.inputs()))
    return outputs, request.param.reference()


def error(ours, reference, name):
    return relative_error(*sampled(ours, reference, name))


def share_of_equal_values(ours, reference, name):
    """Share of the sampled values that agree to 1e-4 of their deviation."""
    ours, expected = sampled(ours, reference, name)
    return (np.abs(ours.numpy() - expected) < 1e-4 * reference[f"{name}|stats"][1]).mean()


def test_maps(evaluation):
    ours, reference = evaluation
    for t in (0, 1):
        assert error(ours["msfe"][t].logits, reference, f"heatmap_logits_t{t}") < 1e-5
        assert error(ours["depth_net"][t][0], reference, f"depth_t{t}") < 1e-4
        pooled = ours["view_transform"][t][0]
        assert share_of_equal_values(pooled, reference, f"bev_pooled_t{t}") > 0.999
    assert error(ours["bev_encoder"][0], reference, "bev_embed") < 1e-3
    for i, maps in enumerate(ours["head"][0]):
        for name, value in maps.items():
            assert error(value, reference, f"task{i}.{name}") < 1e-3, (i, name)


def test_detections(evaluation):
    ours, reference = evaluation
    found = ours["detections"][0]["instances"]
    boxes, classes = reference["det0.boxes"], reference["det0.labels"]
    distance = np.abs(found.pred_boxes_3d.tensor.numpy()[:, None] - boxes[None]).max(-1)
    distance += 10 * (found.pred_classes.numpy()[:, None] != classes[None])
    distance += np.abs(found.scores.numpy()[:, None] - reference["det0.scores"][None])
    assert len(boxes) > 400
    assert (distance.min(axis=0) < 1e-2).mean() >= 0.99
    assert (distance.min(axis=1) < 1e-2).mean() >= 0.99


@pytest.fixture(scope="module")
def training():
    """A step with two threads. With one, sums are added in another order, and rounding differs by
    more than the tolerances here after BatchNorm over a batch of two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    overrides = ["model.bev_paste=null", "model.teacher_fill=release", "model.depth_net.dropout=0"]
    model = R50_TRAINING.load_model(*overrides).train()
    outputs = record(model, "view_transform", "bev_encoder")
    outputs["losses"] = model(samples(R50_TRAINING.inputs()))
    sum(outputs["losses"].values()).backward()
    torch.set_num_threads(threads)
    return model, outputs, R50_TRAINING.reference()


def test_losses(training):
    _, ours, reference = training
    expected = our_losses(reference)
    assert {name: loss.item() for name, loss in ours["losses"].items()} == pytest.approx(
        expected, rel=1e-4
    )


def test_training_maps_and_statistics(training):
    model, ours, reference = training
    for t in (0, 1):
        pooled = ours["view_transform"][t]
        assert share_of_equal_values(pooled, reference, f"bev_pooled_t{t}") > 0.999
    assert error(ours["bev_encoder"][0], reference, "bev_embed") < 1e-3
    running = (model.backbone.bn1.running_mean, model.bev_encoder.neck.merge[1].running_mean)
    assert relative_error(running[0], reference["bn_backbone_mean"]) < 1e-4
    assert relative_error(running[1], reference["bn_running_mean"]) < 1e-4


def test_gradients(training):
    """ReLU units at zero are not pinned here (relu_units.py); among so many each weighs little."""
    model, _, reference = training
    parameters = dict(model.named_parameters())
    names = {key.split("|")[0] for key in reference if key.startswith("grad.")}
    errors = {
        name: error(parameters[our_name(name.removeprefix("grad."))].grad, reference, name)
        for name in names
    }
    assert errors and max(errors.values()) < 1e-3, errors
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()
    assert norm == pytest.approx(reference["grad_norm"].item(), rel=1e-3)
