"""Targets of the center head against numbers by hand and the public release, box by box."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from oracles.heatmaps import cornernet_radius, published_center_targets

from fsdbev.d2.structures import Instances
from fsdbev.modeling.center_head.targets import center_targets, gaussian_radius
from fsdbev.structures import BEVGrid, Boxes3D

GRID = BEVGrid(x_range=(-8.0, 8.0), y_range=(-6.0, 6.0), cell=0.5)
TASKS = [[0], [2, 1], [3]]


def instances(*rows):
    """Returns instances of rows: class and the 9 numbers of a box."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 10)
    return Instances((1, 1), gt_boxes_3d=Boxes3D(table[:, 1:]), gt_classes=table[:, 0].long())


def make(samples, **overrides):
    settings = dict(min_radius=2, min_overlap=0.1, max_boxes=500)
    return center_targets(
        samples, tasks=TASKS, grid=GRID, device="cpu", **{**settings, **overrides}
    )


def boxes_of(targets, task):
    """Returns regression, sample and cell of the boxes of one task."""
    chosen = targets.task == task
    return targets.regression[chosen], targets.sample[chosen], targets.cell[chosen]


@settings(max_examples=200, deadline=None)
@given(
    st.floats(0.1, 60.0),
    st.floats(0.1, 60.0),
    st.floats(0.02, 0.98),
)
def test_radius_is_the_smallest_of_cornernets_three(length, width, overlap):
    radius = gaussian_radius(torch.tensor([[length, width]], dtype=torch.float64), overlap)
    assert radius.item() == pytest.approx(cornernet_radius(length, width, overlap), rel=1e-9)


def test_one_box_by_hand():
    # x = 1.3 is at (1.3 + 8) / 0.5 = 18.6 cells, y = -0.9 at 10.2 cells.
    targets = make([instances((0, 1.3, -0.9, 0.4, 4.0, 2.0, 1.5, math.pi / 6, 3.0, -1.0))])
    expected = [0.6, 0.2, 0.4, math.log(4), math.log(2), math.log(1.5), 0.5, math.sqrt(0.75), 3, -1]
    assert targets.regression[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert targets.cell.tolist() == [10 * 32 + 18]
    assert targets.sample.tolist() == targets.task.tolist() == [0]
    assert [h.shape for h in targets.heatmaps] == [(1, k, 24, 32) for k in (1, 2, 1)]
    heatmap = targets.heatmaps[0][0, 0]
    assert heatmap[10, 18] == 1
    # Radius 2: sigma = 5 / 6; the Gaussian is zero beyond two cells.
    assert heatmap[10, 20].item() == pytest.approx(math.exp(-4 / (2 * 25 / 36)), rel=1e-5)
    assert heatmap[12, 20].item() == pytest.approx(math.exp(-8 / (2 * 25 / 36)), rel=1e-5)
    assert heatmap[10, 21] == 0 and (heatmap > 0).sum() == 25


def test_same_as_box_by_box():
    generator = torch.Generator().manual_seed(3)

    def sample(count):
        low = torch.tensor([-9.0, -7.0, -1.0, 0.3, 0.3, 0.5, -3.1, -5.0, -5.0])
        high = torch.tensor([9.0, 7.0, 1.0, 14.0, 4.0, 3.0, 3.1, 5.0, 5.0])
        boxes = low + (high - low) * torch.rand(count, 9, generator=generator)
        classes = torch.randint(0, 4, (count, 1), generator=generator)
        return instances(*torch.cat([classes, boxes], dim=1).tolist())

    samples = [sample(30), sample(0), sample(45)]
    targets = make(samples)
    assert len(targets.task) == 75 and (targets.task == -1).any()
    settings = {"grid": GRID, "min_radius": 2, "min_overlap": 0.1, "max_boxes": 500}
    *heatmaps, regression, task, cell = published_center_targets(
        samples, tasks=TASKS, device="cpu", **settings
    )
    for found, expected in zip(targets.heatmaps, heatmaps, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(targets.task, task)
    on_grid = task >= 0
    assert torch.equal(targets.cell[on_grid], cell[on_grid])
    assert targets.sample.tolist() == [0] * 30 + [2] * 45
    torch.testing.assert_close(
        targets.regression[on_grid], regression[on_grid], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("x", "y", "kept"),
    [(-8.0, -6.0, 1), (-8.01, 0.0, 0), (7.99, 5.99, 1), (8.0, 0.0, 0), (0.0, 6.0, 0), (0, -6.2, 0)],
)
def test_center_off_the_grid_is_dropped(x, y, kept):
    targets = make([instances((0, x, y, 0, 4, 2, 1.5, 0, 0, 0))])
    assert (targets.task == 0).sum() == kept
    assert (targets.heatmaps[0] == 1).sum() == kept


def test_at_most_max_boxes_a_task_and_sample():
    """The first boxes of a task are kept; boxes of other tasks or off the grid do not count."""
    car, row = (0, 0, 0, 0, 4, 2, 1.5, 0, 0, 0), (1, 0.3, 0.3, 0, 4, 2, 1.5, 0, 0, 0)
    off_grid = (1, 9.0, 0.3, 0, 4, 2, 1.5, 0, 0, 0)
    other = (2, 5.3, 0.3, 0, 4, 2, 1.5, 0, 0, 0)
    samples = [instances(row, car, row, other), instances(off_grid, row), instances(row, car, row)]
    targets = make(samples, max_boxes=2)
    assert targets.task.tolist() == [1, 0, 1, -1, -1, 1, 1, 0, 1]
    assert boxes_of(targets, 1)[1].tolist() == [0, 0, 1, 2, 2]
    heatmap = targets.heatmaps[1]  # of classes 2 and 1
    assert (heatmap == 1).sum(dim=(2, 3)).tolist() == [[0, 1], [0, 1], [0, 1]]


def test_no_boxes():
    targets = make([instances(), instances()])
    for class_ids, heatmap in zip(TASKS, targets.heatmaps, strict=True):
        assert heatmap.shape == (2, len(class_ids), 24, 32) and not heatmap.any()
    assert targets.regression.shape == (0, 10) and len(targets.cell) == len(targets.task) == 0


def test_unknown_class_and_box_without_size_are_refused():
    for bad in (-1, 7):
        with pytest.raises(ValueError, match=f"class {bad}, which no task"):
            make([instances((bad, 0, 0, 0, 4, 2, 1.5, 0, 0, 0))])
    for width in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="positive sizes"):
            make([instances((0, 0, 0, 0, 4, width, 1.5, 0, 0, 0))])


def test_inputs_are_unchanged():
    sample = instances((0, 1.3, -0.9, 0.4, 4.0, 2.0, 1.5, 0.5, 3.0, -1.0))
    before = sample.gt_boxes_3d.tensor.clone()
    make([sample])
    assert torch.equal(sample.gt_boxes_3d.tensor, before)
