"""Losses of the center head against numbers computed by hand."""

import math

import pytest
import torch

from fsdbev.modeling.center_head import losses as module
from fsdbev.modeling.center_head.losses import (
    center_losses,
    gaussian_focal_loss,
    regression_errors,
)
from fsdbev.modeling.center_head.targets import REGRESSION, CenterTargets


def make_targets(*heatmaps, boxes=((0, 0, 0),), value=1.0):
    """Returns targets of the tasks' heatmaps and of boxes, each as (task, sample, cell)."""
    task, sample, cell = torch.tensor(boxes, dtype=torch.int64).reshape(-1, 3).T
    regression = torch.full((len(task), 10), value)
    return CenterTargets(heatmaps, regression, task, sample, cell)


def make_prediction(*, batch=1, classes=1, rows=2, columns=3, value=0.0):
    widths = {**REGRESSION, "heatmap": classes}
    return {k: torch.full((batch, w, rows, columns), value) for k, w in widths.items()}


def test_focal_loss_by_hand():
    probability, target = [0.9, 0.2, 0.3], [1.0, 0.5, 0.0]
    logits = torch.tensor(probability).logit().reshape(1, 1, 1, 1, 3)
    expected = -(0.1**2 * math.log(0.9) + 0.5**4 * 0.2**2 * math.log(0.8) + 0.3**2 * math.log(0.7))
    loss = gaussian_focal_loss(logits, torch.tensor(target).reshape(1, 1, 1, 3))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_is_clamped_where_it_would_explode():
    loss = gaussian_focal_loss(torch.full((1, 1, 1, 1, 1), -80.0), torch.ones(1, 1, 1, 1))
    assert loss.item() == pytest.approx(-math.log(1e-4) * (1 - 1e-4) ** 2, rel=1e-5)


def error_of(prediction, targets, task=0):
    """Regression error of a task with these maps (B, channels, Y, X), which all tasks have."""
    return regression_errors([prediction] * len(targets.heatmaps), targets)[task]


def test_regression_reads_the_center_cells():
    prediction = make_prediction(batch=2)
    for offset, maps in enumerate(prediction.values()):
        maps += offset
    prediction["reg"][1, 0, 1, 2] = 5.0
    targets = make_targets(torch.zeros(2, 1, 2, 3), boxes=((0, 0, 0), (0, 1, 5)))
    # reg is 0 except for the 5; height, dim, rot, vel are 1, 2, 3, 4; the target is 1 everywhere.
    expected = [1 + 4, 1 + 1, 0, 2, 2, 2, 4, 4, 6, 6]
    assert error_of(prediction, targets).tolist() == expected


def test_boxes_of_other_tasks_and_of_no_task_do_not_count():
    prediction = {k: v.requires_grad_() for k, v in make_prediction(value=3.0).items()}
    targets = make_targets(torch.zeros(1, 1, 2, 3), boxes=((1, 0, 0), (-1, 0, 2), (0, 0, 4)))
    error = error_of(prediction, targets)
    assert error.tolist() == [2] * 10
    error.sum().backward()
    grad = prediction["height"].grad.flatten().tolist()
    assert grad == [0, 0, 0, 0, 1, 0]


def test_unknown_targets_do_not_count_and_pass_no_gradient():
    prediction = {k: v.requires_grad_() for k, v in make_prediction(value=3.0).items()}
    targets = make_targets(torch.zeros(1, 1, 2, 3))
    targets.regression[0, 8:] = math.nan
    error = error_of(prediction, targets)
    assert error.tolist() == [2] * 8 + [0] * 2
    error.sum().backward()
    assert not prediction["vel"].grad.any()
    assert prediction["dim"].grad[0, :, 0, 0].tolist() == [1, 1, 1]


def test_names_weights_and_averages():
    heatmap = torch.zeros(1, 1, 2, 3)
    heatmap[0, 0, 0, 0] = heatmap[0, 0, 1, 1] = 1
    targets = make_targets(heatmap, boxes=((0, 0, 0), (0, 0, 4), (0, 0, 4)))
    losses = center_losses([make_prediction()], targets, box_weight=0.25)
    parts = {"xy": 2, "z": 1, "dim": 3, "yaw": 2, "vel": 2}
    assert set(losses) == {"task0.loss_heatmap"} | {f"task0.loss_{p}" for p in parts}
    for part, width in parts.items():
        # Three boxes, each an error of 1 in every channel, over three boxes.
        expected = 0.25 * 3 * width / (3 + 1e-4)
        assert losses[f"task0.loss_{part}"].item() == pytest.approx(expected, rel=1e-6)
    # Two peaks, four empty cells, all at a probability of 1/2.
    assert losses["task0.loss_heatmap"].item() == pytest.approx(6 * 0.25 * math.log(2) / 2)


def random_targets(generator, batch=2):
    """Returns targets of two tasks, with one and two classes; the last box is of no task."""
    heatmaps = [torch.rand(batch, k, 2, 3, generator=generator).round(decimals=1) for k in (1, 2)]
    heatmaps[0][0, 0, 0, 0] = heatmaps[1][0, 1, 1, 1] = 1
    boxes = ((0, 0, 0), (1, 0, 4), (1, 1, 3), (0, 1, 5), (0, 1, 1), (-1, 1, 0))
    targets = make_targets(*heatmaps, boxes=boxes)
    targets.regression.copy_(torch.rand(len(boxes), 10, generator=generator))
    return targets


def test_stacked_predictions_are_the_batch_repeated():
    generator = torch.Generator().manual_seed(0)
    once = random_targets(generator)
    twice = CenterTargets(
        heatmaps=tuple(h.repeat(2, 1, 1, 1) for h in once.heatmaps),
        regression=once.regression.repeat(2, 1),
        task=once.task.repeat(2),
        sample=torch.cat([once.sample, once.sample + 2]),
        cell=once.cell.repeat(2),
    )
    predictions = [make_prediction(batch=4, classes=k) for k in (1, 2)]
    for maps in (maps for prediction in predictions for maps in prediction.values()):
        maps.copy_(torch.randn(maps.shape, generator=generator))
    stacked = center_losses(predictions, once, box_weight=0.25)
    for name, loss in center_losses(predictions, twice, box_weight=0.25).items():
        assert stacked[name].item() == pytest.approx(loss.item(), rel=1e-6) and loss > 0, name


def test_no_boxes_give_finite_losses():
    prediction = {k: v.requires_grad_() for k, v in make_prediction().items()}
    targets = make_targets(torch.zeros(1, 1, 2, 3), boxes=())
    losses = center_losses([prediction], targets, box_weight=0.25)
    assert losses["task0.loss_heatmap"].item() == pytest.approx(6 * 0.25 * math.log(2))
    assert all(losses[f"task0.loss_{n}"] == 0 for n in ("xy", "z", "dim", "yaw", "vel"))
    sum(losses.values()).backward()
    assert all(v.grad is not None and v.grad.isfinite().all() for v in prediction.values())


def test_counts_are_averaged_over_ranks(monkeypatch):
    """The other rank has no box: the mean count halves and the losses of this rank double."""
    heatmap = torch.zeros(1, 1, 2, 3)
    heatmap[0, 0, 0, :2] = 1
    targets = make_targets(heatmap, boxes=((0, 0, 0), (0, 0, 1)))
    single = center_losses([make_prediction()], targets, box_weight=1.0)
    reduced = []
    monkeypatch.setattr(module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(module.dist, "all_reduce", reduced.append)
    distributed = center_losses([make_prediction()], targets, box_weight=1.0)
    assert len(reduced) == 1 and reduced[0].tolist() == [[2.0], [2.0]]
    for name, loss in distributed.items():
        assert loss.item() == pytest.approx(2 * single[name].item(), rel=1e-3), name


def test_velocity_weight():
    prediction, targets = make_prediction(), make_targets(torch.zeros(1, 1, 2, 3))
    full, reduced = (
        center_losses([prediction], targets, box_weight=0.25, velocity_weight=weight)
        for weight in (1.0, 0.2)
    )
    assert full["task0.loss_vel"] > 0
    assert reduced["task0.loss_vel"] == pytest.approx(0.2 * full["task0.loss_vel"].item())
    assert all(reduced[name] == full[name] for name in full if name != "task0.loss_vel")
