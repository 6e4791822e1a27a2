"""The center head computes what the public release computed (README.md)."""

import pathlib

import cases
import numpy as np
import pytest
import torch

from fsdbev.d2.structures import Instances
from fsdbev.modeling.center_head import CenterHead
from fsdbev.structures import NUSCENES_CLASSES, BEVGrid, Boxes3D

HERE = pathlib.Path(__file__).parent

#: The release's name of the head, and of the one loss that we call otherwise.
PREFIX, LOSS_DIM = "pts_bbox_head.", "loss_whl"


def make_head(case):
    head = CenterHead(
        in_channels=64,
        shared_channels=16,
        branch_channels=16,
        grid=BEVGrid(cell=3.2),
        classes=NUSCENES_CLASSES,
        max_candidates=100,
    )
    weights = cases.reference_state_dict(case)
    head.load_state_dict(
        {
            name.removeprefix(PREFIX): torch.from_numpy(np.asarray(value))
            for name, value in weights.items()
            if name.startswith(PREFIX)
        }
    )
    return head


@pytest.fixture(scope="module")
def evaluation():
    """Reference arrays, and our maps and detections from the reference's BEV features."""
    reference = np.load(HERE / "tiny_eval.npz")
    head = make_head("tiny_eval").eval()
    with torch.no_grad():
        maps = head(torch.from_numpy(reference["bev_embed"]))
    return reference, maps, head.decode(maps)


@pytest.fixture(scope="module")
def training():
    """Reference arrays, our head in training mode and its losses of student and teacher."""
    reference = np.load(HERE / "tiny_train.npz")
    batch = cases.batch("tiny_train")
    head = make_head("tiny_train").train()
    instances = [
        Instances(
            (1, 1),
            gt_boxes_3d=Boxes3D(torch.from_numpy(boxes)),
            gt_classes=torch.from_numpy(classes),
        )
        for boxes, classes in zip(batch["gt_boxes_3d"], batch["gt_classes"], strict=True)
    ]
    predictions = head(torch.from_numpy(reference["bev_embed"]))
    return reference, head, head.losses(predictions, head.targets(instances))


def test_maps(evaluation):
    reference, maps, _ = evaluation
    for i, prediction in enumerate(maps):
        for name, ours in prediction.items():
            np.testing.assert_allclose(ours, reference[f"task{i}.{name}"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sample", [0, 1])
def test_detections(evaluation, sample):
    reference, _, detections = evaluation
    found = detections[sample]
    boxes = reference[f"det{sample}.boxes"]
    classes = reference[f"det{sample}.labels"]
    scores = reference[f"det{sample}.scores"]
    distance = np.abs(found.pred_boxes_3d.tensor.numpy()[:, None] - boxes[None]).max(-1)
    distance += 10 * (found.pred_classes.numpy()[:, None] != classes[None])
    distance += np.abs(found.scores.numpy()[:, None] - scores[None])
    assert len(found) == pytest.approx(len(boxes), rel=0.01)
    assert (distance.min(axis=0) < 1e-3).mean() >= 0.99
    assert (distance.min(axis=1) < 1e-3).mean() >= 0.99


def test_losses(training):
    reference, _, losses = training
    names = {f"loss.{n.replace('loss_dim', LOSS_DIM)}": loss for n, loss in losses.items()}
    assert set(names) == {n for n in reference.files if n.startswith("loss.task")}
    for name, loss in names.items():
        assert loss.item() == pytest.approx(float(reference[name]), rel=1e-4), name


def test_gradients(training):
    reference, head, losses = training
    head.zero_grad()
    sum(losses.values()).backward(retain_graph=True)
    parameters = dict(head.named_parameters())
    names = [n for n in reference.files if n.startswith(f"grad.{PREFIX}")]
    assert names
    for name in names:
        ours = parameters[name.removeprefix(f"grad.{PREFIX}")].grad
        scale = np.abs(reference[name]).max()
        np.testing.assert_allclose(ours, reference[name], atol=1e-4 * scale, rtol=1e-4)
