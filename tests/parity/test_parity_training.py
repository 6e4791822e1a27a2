"""A training step computes what the public FSD-BEV release computed, with either fill of the
teacher's holes (README.md)."""

import pytest
import torch
from relu_units import pinned_units
from small_model import TRAINING_RUNS, relative_error, share_of_equal_cells
from training_step import gradient_errors, our_losses, training_step


@pytest.fixture(scope="module", params=TRAINING_RUNS)
def training(request):
    run = TRAINING_RUNS[request.param]
    model, outputs = training_step(run, pinned_units(request.param))
    return model, outputs, run.reference()


def test_losses(training):
    _, ours, reference = training
    expected = our_losses(reference)
    assert set(ours["losses"]) == set(expected)
    for name, value in expected.items():
        assert ours["losses"][name].item() == pytest.approx(value, rel=1e-4), name
    assert sum(ours["losses"].values()).item() == pytest.approx(reference["total"], rel=1e-5)


def test_gradients(training):
    model, _, reference = training
    errors = gradient_errors(model, reference)
    assert errors and max(errors.values()) < 1e-4, errors
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()
    assert norm == pytest.approx(reference["grad_norm"][0], rel=1e-4)


def test_student_and_teacher_bev(training):
    _, ours, reference = training
    for t in (0, 1):
        if f"bev_pooled_t{t}" in reference:
            pooled = ours["view_transform"][t].flatten(0, 1)  # student's, then teacher's
            assert share_of_equal_cells(pooled, reference[f"bev_pooled_t{t}"]) > 0.999
    assert relative_error(ours["bev_encoder"][0], reference["bev_embed"]) < 1e-4


def test_batch_norm_sees_the_key_frame_first_then_the_others(training):
    model, _, reference = training
    if "bn_backbone_mean" not in reference:
        pytest.skip("the reference has no running statistics of this run")
    running = (model.backbone.bn1.running_mean, model.bev_encoder.neck.merge[1].running_mean)
    assert relative_error(running[0], reference["bn_backbone_mean"]) < 1e-5
    assert relative_error(running[1], reference["bn_running_mean"]) < 1e-5
