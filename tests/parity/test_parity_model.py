"""The whole model computes what the public FSD-BEV release computed (README.md of this folder).

Gradients are compared through ReLUs in float32: weights changed by 1e-7 make one unit or another
switch, and that moves gradients by 1e-3 to 1e-2 of their norm. They cannot agree better than that;
losses have no such jumps.
"""

import json
import pathlib

import numpy as np
import pytest
import torch
from cases import batch, reference_state_dict
from release_keys import convert_key, convert_state_dict

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.d2.structures import Instances
from fsdbev.modeling.depth_labels import depth_loss, downsample_labels
from fsdbev.modeling.distillation import distillation_loss
from fsdbev.modeling.msfe import heatmap_loss
from fsdbev.structures import Boxes3D, DepthBins

HERE = pathlib.Path(__file__).parent
CONFIG = HERE.parents[1] / "configs/common/models/fsdbev_r50.py"
SMALL = [
    "model.grid.cell=3.2",
    "model.depth_bins.step=2.0",
    "model.backbone.width=8",
    "model.neck.out_channels=32",
    "model.depth_net.mid_channels=32",
    "model.depth_net.context_channels=16",
    "model.depth_net.aspp_channels=16",
    "model.depth_net.dropout=0.0",
    "model.bev_encoder.out_channels=64",
    "model.head.shared_channels=16",
    "model.head.branch_channels=16",
    "model.head.max_candidates=100",
    "model.bev_paste=null",
]
TRAINING = {  # case, fill, prefix in the file
    "dense labels": ("tiny_train", "paper", ""),
    "dense labels, release fill": ("tiny_train", "release", ""),
    "sparse labels": ("tiny_train_sparse", "paper", "paper."),
    "sparse labels, release fill": ("tiny_train_sparse", "release", "release."),
}


def build(overrides):
    config = LazyConfig.apply_overrides(LazyConfig.load(str(CONFIG)), overrides)
    return instantiate(config.model)


def load(case, *overrides):
    model = build([*SMALL, *overrides])
    weights = {k: torch.as_tensor(v) for k, v in reference_state_dict(case).items()}
    model.load_state_dict(convert_state_dict(weights), strict=True)
    return model


def samples(case):
    arrays = batch(case)
    boxes, classes = arrays.pop("gt_boxes_3d"), arrays.pop("gt_classes")
    found = []
    for i in range(len(boxes)):
        sample = {key: torch.from_numpy(value[i]) for key, value in arrays.items()}
        instances = Instances(tuple(arrays["images"].shape[-2:]))
        instances.gt_boxes_3d = Boxes3D(torch.from_numpy(boxes[i]))
        instances.gt_classes = torch.from_numpy(classes[i])
        found.append(sample | {"instances": instances})
    return found


def record(model, *names):
    """Outputs of the named submodules, one list each, filled as the model runs."""
    outputs = {name: [] for name in names}
    for name in names:
        getattr(model, name).register_forward_hook(
            lambda module, args, output, name=name: outputs[name].append(output)
        )
    return outputs


def relative_error(ours, reference):
    ours = ours.detach().double().numpy()
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


def share_of_equal_cells(ours, reference):
    """(..., C, Y, X) maps -> share of the cells in which all channels agree to 1e-4."""
    difference = np.abs(ours.detach().numpy() - reference).max(axis=-3)
    return (difference < 1e-4 * np.abs(reference).max()).mean()


@pytest.fixture(scope="module")
def components():
    return {k: torch.as_tensor(v) for k, v in np.load(HERE / "components.npz").items()}


@pytest.fixture(scope="module")
def evaluation():
    model = load("tiny_eval").eval()
    outputs = record(model, "msfe", "depth_net", "view_transform", "bev_encoder", "head")
    with torch.no_grad():
        outputs["detections"] = model(samples("tiny_eval"))
    return outputs, np.load(HERE / "tiny_eval.npz")


@pytest.fixture(scope="module", params=TRAINING)
def training(request):
    case, fill, prefix = TRAINING[request.param]
    model = load(case, f"model.teacher_fill={fill}").train()
    outputs = record(model, "view_transform", "bev_encoder")
    outputs["losses"] = model(samples(case))
    sum(outputs["losses"].values()).backward()
    reference = np.load(HERE / f"{case}.npz")
    reference = {k[len(prefix) :]: v for k, v in reference.items() if k.startswith(prefix)}
    return model, outputs, reference


def test_release_r50_checkpoint_has_our_names_and_shapes():
    ours = {k: list(v.shape) for k, v in build([]).state_dict().items()}
    release = convert_state_dict(json.loads((HERE / "keys_r50.json").read_text()))
    assert ours == release


def test_unknown_release_key_is_refused():
    with pytest.raises(ValueError, match="img_backbones"):
        convert_key("img_backbones.conv1.weight")


@pytest.mark.parametrize("t", [0, 1])
def test_evaluation_of_a_frame(evaluation, t):
    ours, reference = evaluation
    logits = ours["msfe"][t].logits.unflatten(0, (2, 6))
    assert relative_error(logits, reference[f"heatmap_logits_t{t}"]) < 1e-5
    assert relative_error(ours["depth_net"][t][0], reference[f"depth_t{t}"]) < 1e-4
    pooled = ours["view_transform"][t][0]
    assert share_of_equal_cells(pooled, reference[f"bev_pooled_t{t}"]) > 0.999


def test_evaluation_of_the_bev_branch(evaluation):
    ours, reference = evaluation
    assert relative_error(ours["bev_encoder"][0], reference["bev_embed"]) < 1e-4
    for i, maps in enumerate(ours["head"][0]):
        for name, value in maps.items():
            assert relative_error(value, reference[f"task{i}.{name}"]) < 1e-4, (i, name)


def test_detections(evaluation):
    ours, reference = evaluation
    for b, detected in enumerate(ours["detections"]):
        instances = detected["instances"]
        scores, order = instances.scores.sort(descending=True, stable=True)
        expected = np.argsort(-reference[f"det{b}.scores"], kind="stable")
        np.testing.assert_allclose(scores, reference[f"det{b}.scores"][expected], atol=1e-5)
        np.testing.assert_array_equal(
            instances.pred_classes[order], reference[f"det{b}.labels"][expected]
        )
        boxes = instances.pred_boxes_3d.tensor[order]
        np.testing.assert_allclose(boxes, reference[f"det{b}.boxes"][expected], atol=1e-3)


def test_losses(training):
    _, ours, reference = training
    names = {"loss_bev": "loss_distill", "loss_hm": "loss_foreground"}
    expected = {k[len("loss.") :]: v for k, v in reference.items() if k.startswith("loss.")}
    expected = {names.get(k, k).replace("loss_whl", "loss_dim"): v for k, v in expected.items()}
    assert set(ours["losses"]) == set(expected)
    for name, value in expected.items():
        assert ours["losses"][name].item() == pytest.approx(float(value), rel=1e-4), name
    assert sum(ours["losses"].values()).item() == pytest.approx(reference["total"], rel=1e-5)


def test_gradients(training):
    model, _, reference = training
    parameters = dict(model.named_parameters())
    for key, value in reference.items():
        if key.startswith("grad."):
            gradient = parameters[convert_key(key[len("grad.") :])].grad
            assert relative_error(gradient, value) < 2e-2, key
    norm = torch.stack([p.grad.norm() for p in parameters.values()]).norm().item()
    assert norm == pytest.approx(reference["grad_norm"][0], rel=1e-3)


def test_gradients_of_the_last_layer_before_the_loss(training):
    model, _, reference = training
    key = "grad.pts_bbox_head.task_heads.0.heatmap.1.weight"
    if key in reference:
        gradient = model.head.task_heads[0].heatmap[1].weight.grad
        assert relative_error(gradient, reference[key]) < 1e-4


def test_student_and_teacher_bev(training):
    _, ours, reference = training
    for t in (0, 1):
        if f"bev_pooled_t{t}" in reference:
            pooled = ours["view_transform"][t].flatten(0, 1)  # student's, then teacher's
            assert share_of_equal_cells(pooled, reference[f"bev_pooled_t{t}"]) > 0.999
    assert relative_error(ours["bev_encoder"][0], reference["bev_embed"]) < 1e-4


def test_batch_norm_sees_the_key_frame_first_then_the_others(training):
    model, _, reference = training
    if "bn_backbone_mean" in reference:
        running = (model.backbone.bn1.running_mean, model.bev_encoder.neck.merge[1].running_mean)
        assert relative_error(running[0], reference["bn_backbone_mean"]) < 1e-5
        assert relative_error(running[1], reference["bn_running_mean"]) < 1e-5


def test_labels_and_depth_loss(components):
    labels = downsample_labels(
        components["label.depth_in"][0], components["label.fg_in"][0] > 0, DepthBins(step=2.0)
    )
    distribution = labels.distribution.permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(distribution, components["label.depth_dist"], rtol=0, atol=0)
    assert (labels.foreground.flatten() == components["label.fg_onehot"][:, 1].bool()).all()
    loss = 3.0 * depth_loss(components["label.depth_pred"], labels)
    torch.testing.assert_close(loss, components["label.depth_loss"], rtol=1e-5, atol=0)


def test_distillation_loss(components):
    loss = distillation_loss(components["bevloss.s"], components["bevloss.t"])
    torch.testing.assert_close(loss, components["bevloss.loss"], rtol=1e-5, atol=0)


def test_heatmap_loss(components):
    loss = heatmap_loss(components["hmloss.logits"], components["hmloss.target"])
    torch.testing.assert_close(loss, components["hmloss.loss"], rtol=1e-5, atol=0)
