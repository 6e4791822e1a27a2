"""Labels and loss of the depth network."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from fsdbev.modeling.depth_labels import DepthLabels, depth_loss, downsample_labels
from fsdbev.structures import DepthBins

BINS = DepthBins(start=1.0, stop=11.0, step=2.0)  # 1, 3, 5, 7, 9 m


def label(points, size=(16, 32)):
    """Returns the labels of one image with points (row, column, depth, is foreground)."""
    depth, foreground = torch.zeros(1, *size), torch.zeros(1, *size, dtype=torch.bool)
    for row, column, metres, is_foreground in points:
        depth[0, row, column], foreground[0, row, column] = metres, is_foreground
    return downsample_labels(depth, foreground, BINS)


def test_background_cell_has_the_bin_of_its_nearest_point():
    labels = label([(0, 0, 9.0, False), (15, 15, 5.5, False), (3, 3, 7.0, False)])
    assert labels.distribution[0, :, 0].T.tolist() == [[0, 0, 1, 0, 0], [0] * 5]
    assert labels.known.tolist() == [[[True, False]]]
    assert not labels.foreground.any()


def test_foreground_cell_has_the_histogram_of_its_foreground_points():
    points = [(0, c, d, True) for c, d in ((16, 3.0), (17, 4.9), (18, 9.5), (31, 3.1))]
    labels = label([*points, (9, 20, 1.0, False)])
    assert labels.distribution[0, :, 0, 1].tolist() == [0, 0.75, 0, 0, 0.25]
    assert labels.foreground.tolist() == [[[False, True]]]


def test_points_out_of_range_are_dropped():
    labels = label([(0, 0, 0.9, False), (0, 1, 11.1, True), (0, 20, 60.0, False)])
    assert not labels.known.any() and not labels.foreground.any()
    assert not labels.distribution.any()

    at_the_end = label([(0, 0, 11.0, True)])  # in range, but in no bin
    assert at_the_end.foreground[0, 0, 0] and not at_the_end.known.any()


def test_image_size_must_fit():
    with pytest.raises(ValueError, match="20 x 32 must be a multiple of 16"):
        label([], size=(20, 32))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), density=st.floats(0, 0.1))
def test_distributions_sum_to_one_where_known(seed, density):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 32, 48)
    depth = torch.rand(shape, generator=generator) * 15
    depth = depth * (torch.rand(shape, generator=generator) < density)
    foreground = torch.rand(shape, generator=generator) < 0.5
    labels = downsample_labels(depth, foreground, BINS)
    torch.testing.assert_close(labels.distribution.sum(dim=1), labels.known.float())


def test_depth_loss_by_hand():
    distribution = torch.zeros(1, 2, 1, 3)
    distribution[0, 0, 0, 0] = distribution[0, 1, 0, 1] = 1
    labels = DepthLabels(
        distribution=distribution,
        foreground=torch.tensor([[[True, False, True]]]),
        known=torch.tensor([[[True, True, False]]]),
    )
    depth_prob = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]]).T.view(1, 2, 1, 3)
    expected = 0.9 * -2 * math.log(0.8) + 0.1 * -2 * math.log(0.5)
    assert depth_loss(depth_prob, labels).item() == pytest.approx(expected, rel=1e-5)
    assert depth_loss(torch.full((1, 5, 1, 2), 0.2), label([])).item() == 0
