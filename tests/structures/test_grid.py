"""BEV grid and depth bins: derived sizes, label bins, refused ranges."""

import re

import pytest
import torch

from fsdbev.structures import BEVGrid, DepthBins, flip_probabilities


def test_default_grid_is_that_of_the_r50_model():
    grid = BEVGrid()
    assert grid.count == (128, 128, 1) and grid.shape == (128, 128)
    assert grid.lower == (-51.2, -51.2, -5.0)
    assert grid.size == (0.8, 0.8, 8.0)
    assert BEVGrid(cell=0.4).shape == (256, 256)


def test_x_and_y_may_differ():
    grid = BEVGrid(x_range=(0, 10), y_range=(-3, 3), z_range=(-1, 2), cell=0.5)
    assert grid.count == (20, 12, 1)
    assert grid.shape == (12, 20), "a BEV map is (Y, X)"
    assert grid.lower == (0.0, -3.0, -1.0) and grid.size == (0.5, 0.5, 3.0)
    assert (grid.reach, BEVGrid().reach) == (10.0, 51.2)


def test_ranges_may_be_lists_and_grids_are_values():
    """Ranges in configs are lists; grids with equal values are equal and can be keys."""
    assert BEVGrid(x_range=[-51.2, 51.2]) == BEVGrid()
    assert len({BEVGrid(), BEVGrid(x_range=[-51.2, 51.2])}) == 1
    with pytest.raises(AttributeError):
        BEVGrid().cell = 1.0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (dict(cell=0.7), "x_range.*-51.2.*0.7"),
        (dict(cell=0.0), "x_range.*step 0.0"),
        (dict(cell=-0.8), "step -0.8"),
        (dict(y_range=(-51.2, 51.0)), "y_range.*51.0"),
        (dict(x_range=(51.2, -51.2)), "x_range"),
        (dict(z_range=(3.0, -5.0)), "z_range"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        BEVGrid(**arguments)


def test_default_bins_are_those_of_the_r50_model():
    bins = DepthBins()
    assert bins.count == 118
    assert bins.centers.dtype == torch.float32
    assert bins.centers[[0, 1, -1]].tolist() == [1.0, 1.5, 59.5]
    assert bins.index(bins.centers).tolist() == list(range(bins.count))
    assert DepthBins(step=0.25).count == 236


def test_the_last_bin_may_end_beyond_stop():
    bins = DepthBins(start=1.0, stop=60.0, step=2.0)
    assert bins.count == 30 and bins.centers[-1] == 59.0
    assert bins.index(torch.tensor([59.0, 60.0, 60.99, 61.0])).tolist() == [29, 29, 29, -1]
    assert bins.contains(torch.tensor([60.0, 60.5])).tolist() == [True, False]


def test_label_bins_by_hand():
    """The label bin trunc((d - 0.5) / 0.5), valid for 1 .. 118, is one more than the index."""
    depths = torch.tensor([1.0, 1.49, 1.5, 2.3, 59.49, 59.5, 59.99])
    assert DepthBins().index(depths).tolist() == [0, 0, 1, 2, 116, 117, 117]
    # Depths below the first bin, negative ones too, and beyond the last bin.
    depths = torch.tensor([0.99, 0.5, 0.2, 0.0, -0.2, -7.0, 60.0, 100.0])
    assert DepthBins().index(depths).tolist() == [-1] * 8


def test_contains_is_inclusive():
    depths = torch.tensor([0.999, 1.0, 30.0, 60.0, 60.01])
    assert DepthBins().contains(depths).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (dict(step=0.0), "step 0.0"),
        (dict(step=-0.5), "step -0.5"),
        (dict(start=0.0), "start must be positive.*0.0"),
        (dict(start=60.0, stop=1.0), "60.0"),
    ],
)
def test_bins_that_do_not_fit_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        DepthBins(**arguments)


@pytest.mark.parametrize(
    ("given", "cell", "nearest"),
    [
        ((0.0, 50.0), 0.8, [0.0, 50.4]),
        ((-50.2, 50.2), 0.8, [-50.4, 50.4]),
        ((-5.0, 10.3), 1.0, [-5.0, 10.0]),
    ],
)
def test_a_range_that_is_no_multiple_of_the_cell_names_the_nearest(given, cell, nearest):
    with pytest.raises(ValueError, match=re.escape(f"the nearest one is {nearest}")):
        BEVGrid(x_range=given, cell=cell)


@pytest.mark.parametrize(
    ("given", "nearest"), [((0.0, 80.0), [0.0, 83.2]), ((-50.4, 50.4), [-51.2, 51.2])]
)
def test_a_range_that_is_no_multiple_of_the_stride_names_the_nearest(given, nearest):
    grid = BEVGrid(x_range=given, y_range=(-51.2, 51.2))
    with pytest.raises(ValueError, match=re.escape(f"nearest range is {nearest}")):
        grid.check_stride(8)
    BEVGrid(x_range=tuple(nearest), y_range=(-51.2, 51.2)).check_stride(8)


def test_flips_need_a_symmetric_range():
    """On a range of 0 to 80 m, half of the training samples would have no target."""
    ahead = BEVGrid(x_range=(0.0, 80.0))
    message = r"flip_prob flips x, but model.grid.x_range \[0.0, 80.0\].*set .* to \[0.0, 0.5\]"
    with pytest.raises(ValueError, match=message):
        ahead.check_flips(flip_probabilities(0.5), "dataloader.bev_aug.flip_prob")
    ahead.check_flips(flip_probabilities([0.0, 0.5]), "dataloader.bev_aug.flip_prob")
    BEVGrid().check_flips(flip_probabilities(0.5), "dataloader.bev_aug.flip_prob")
    for wrong in (1.5, [0.5], [0.5, -0.1]):
        with pytest.raises(ValueError, match="a probability, or two, for x and y"):
            flip_probabilities(wrong)
