"""Training evaluates the regression branches at the center cells; the values are the maps'."""

import copy

import pytest
import torch
from torch import nn

from fsdbev.d2.structures import Instances
from fsdbev.modeling.center_head import CenterHead
from fsdbev.modeling.center_head.regression import TrainingPredictions, can_fold
from fsdbev.structures import NUSCENES_CLASSES, BEVGrid, Boxes3D

GRID = BEVGrid(x_range=(0.0, 8.0), y_range=(0.0, 6.0), cell=1.0)


def make_head(seed=0):
    """A head in double precision whose BatchNorms have arbitrary weights and statistics."""
    torch.manual_seed(seed)
    head = CenterHead(
        in_channels=5, shared_channels=4, branch_channels=3, grid=GRID, classes=NUSCENES_CLASSES
    ).double()
    for norm in (m for m in head.modules() if isinstance(m, nn.BatchNorm2d)):
        for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            values.uniform_(0.5, 1.5)
    return head


def instances(*cells, seed=0):
    """A sample with a box of a random class in each of these cells (x, y)."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(len(cells), 9, generator=generator, dtype=torch.float64) + 0.5
    boxes[:, :2] = torch.tensor(cells, dtype=torch.float64).reshape(-1, 2) + 0.4
    classes = torch.randint(0, 10, (len(cells),), generator=generator)
    return Instances((6, 8), gt_boxes_3d=Boxes3D(boxes), gt_classes=classes)


#: Corners, edges, the inside, a cell twice, and a cell off the grid.
SAMPLES = [
    instances((0, 0), (7, 0), (7, 5), (3, 0), (0, 4), (4, 3), (4, 3), (20, 3)),
    instances((1, 1), (6, 4), seed=1),
]


def step(head, samples, all_maps=False, stacked=2):
    """Losses, gradients with respect to features and weights, and buffers after a forward pass."""
    generator = torch.Generator().manual_seed(2)
    shape = (stacked * len(samples), 5, 6, 8)
    features = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    if all_maps:
        shared = head.shared_conv(features)
        predictions = [{n: b(shared) for n, b in task.items()} for task in head.task_heads]
    else:
        predictions = head(features)
    losses = head.losses(predictions, head.targets(samples))
    weights = dict(head.named_parameters())
    found = torch.autograd.grad(sum(losses.values()), [features, *weights.values()])
    gradients = dict(zip(["features", *weights], found, strict=True))
    return predictions, losses, gradients, dict(head.named_buffers())


def frozen(head):
    """The head with BatchNorms that normalise by their running statistics, also in training."""
    for norm in (m for m in head.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.eval()
    return head


@pytest.mark.parametrize("samples", [SAMPLES, [instances(), instances()]], ids=["boxes", "none"])
@pytest.mark.parametrize("prepare", [nn.Module.train, frozen], ids=["batch", "running"])
def test_values_gradients_and_statistics_are_those_of_the_maps(samples, prepare):
    head = prepare(make_head())
    predictions, *at_cells = step(copy.deepcopy(head), samples)
    assert isinstance(predictions, TrainingPredictions)
    _, *of_maps = step(head, samples, all_maps=True)
    for found, expected in zip(at_cells, of_maps, strict=True):
        assert found.keys() == expected.keys()
        for name in found:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-11)


def test_float32_suffices_for_features_far_from_zero():
    """A variance taken around zero would be a difference of numbers a thousand times as large."""
    head = make_head()
    head.shared_conv.bn.bias.data += 30
    expected = step(copy.deepcopy(head), SAMPLES, all_maps=True)[1]
    features = torch.randn(
        4, 5, 6, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    head.float()
    losses = head.losses(head(features.float()), head.targets(SAMPLES))
    for name, loss in losses.items():
        torch.testing.assert_close(loss.double(), expected[name], rtol=1e-4, atol=1e-5)


def test_values_are_computed_in_float32_under_autocast():
    head = make_head().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        regression = head(torch.randn(2, 5, 6, 8)).regression[0]
        values = regression.at(torch.tensor([0, 1]), torch.tensor([5, 47]), 2)
    with torch.autocast("cpu", enabled=False):
        expected = regression.at(torch.tensor([0, 1]), torch.tensor([5, 47]), 2)
    assert values.dtype == torch.float32 and torch.equal(values, expected)


def test_evaluation_has_all_maps_and_the_same_losses():
    head = make_head().eval()
    predictions, losses, *_ = step(head, SAMPLES)
    assert set(predictions[0]) == set(head.task_heads[0])
    _, expected, *_ = step(frozen(make_head()), SAMPLES)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


def replaced_norm(head):
    head.task_heads[1]["dim"][0].bn = nn.GroupNorm(1, 3).double()


def subclassed_convolution(head):
    class Convolution(nn.Conv2d):
        pass

    head.task_heads[2]["vel"][1].__class__ = Convolution


def other_momentum(head):
    head.task_heads[0]["reg"][0].bn.momentum = 0.3


def replaced_branch(head):
    head.task_heads[3]["rot"] = nn.Conv2d(4, 2, 1).double()


def hook(head):
    head.task_heads[4]["height"][0].register_forward_hook(lambda *arguments: None)


def other_kernel(head):
    head.task_heads[5]["reg"][1] = nn.Conv2d(3, 2, 1).double()


def other_padding(head):
    head.task_heads[5]["reg"][1].padding_mode = "reflect"


CHANGES = [
    other_padding,
    replaced_norm,
    subclassed_convolution,
    other_momentum,
    replaced_branch,
    hook,
    other_kernel,
]


def test_half_precision_weights_are_run_on_all_cells():
    """The moments of the folded branches are in float32."""
    head = make_head().bfloat16()
    assert not can_fold(head.task_heads)
    assert isinstance(head(torch.zeros(1, 5, 6, 8, dtype=torch.bfloat16)), list)


@pytest.mark.parametrize("change", CHANGES)
def test_other_layers_are_run_on_all_cells(change):
    head = make_head()
    change(head)
    assert not can_fold(head.task_heads)
    predictions, losses, gradients, _ = step(head, SAMPLES)
    assert isinstance(predictions, list)
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert all(loss.isfinite() for loss in losses.values())
