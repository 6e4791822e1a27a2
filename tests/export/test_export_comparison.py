"""Comparison of two sets of detections."""

import math

import pytest
import torch

from fsdbev.export.comparison import Differences, compare_detections, largest_difference
from fsdbev.modeling.center_head.decode import Candidates

TOLERANCE = 1e-3


def detections(count=100, seed=0):
    g = torch.Generator().manual_seed(seed)
    boxes = torch.randn(count, 9, generator=g) * 20
    boxes[:, 6] = torch.rand(count, generator=g) * 2 * math.pi - math.pi
    classes = torch.arange(count) % 4
    return Candidates(boxes, torch.rand(count, generator=g), classes)


def compare(found, expected=None, tolerance=TOLERANCE):
    return compare_detections([found], [detections() if expected is None else expected], tolerance)


def changed(name, change):
    """Returns the detections with one tensor changed in place."""
    result = detections()
    change(getattr(result, name))
    return result


def test_equal_detections_in_any_order():
    assert compare(detections()) == Differences(200, 0, 0.0, 0.0)
    assert compare(detections()[torch.randperm(100)]) == Differences(200, 0, 0.0, 0.0)


def test_small_differences_are_reported():
    found = detections()
    found.scores[3] += 5e-4
    found.boxes[7, 1] = found.boxes[7, 1] + 2e-3 * max(1.0, abs(found.boxes[7, 1]))
    result = compare(found)
    assert result.num_unmatched == 0
    assert result.score == pytest.approx(5e-4, rel=1e-2)
    assert result.box == pytest.approx(2e-3, rel=1e-2)
    result.check(TOLERANCE)


def test_yaw_is_compared_modulo_full_turns():
    a, b = detections(), detections()
    a.boxes[:, 6], b.boxes[:, 6] = math.pi - 1e-4, -math.pi + 1e-4
    result = compare(a, b)
    assert result.num_unmatched == 0 and result.box == pytest.approx(2e-4 / math.pi, rel=1e-2)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scores", lambda x: x[5:6].add_(2e-3)),
        ("boxes", lambda x: x[5, :1].add_(1e3)),
        ("boxes", lambda x: x[5, 8:].fill_(math.nan)),
        ("scores", lambda x: x[5:6].fill_(math.nan)),
        ("classes", lambda x: x[5:6].add_(1)),
    ],
)
def test_a_detection_that_differs_has_no_counterpart(name, change):
    """Neither has the one that it was changed from."""
    result = compare(changed(name, change))
    assert result.num_unmatched == 2 and result.score == result.box == 0
    result.check(TOLERANCE)  # 1 in 100 is accepted


def test_too_many_differences():
    found = changed("classes", lambda x: x[5:7].add_(1))
    with pytest.raises(ValueError, match="4 of 200 detections .* within 0.001 of their scores and"):
        compare(found).check(TOLERANCE)


@pytest.mark.parametrize("count", [0, 50])
def test_missing_detections(count):
    for a, b in ((detections()[:count], None), (detections(), detections()[:count])):
        result = compare(a, b)
        assert result.num_detections == 100 + count
        assert result.num_unmatched == 100 - count
        with pytest.raises(ValueError, match="no counterpart"):
            result.check(TOLERANCE)


def test_samples_are_not_mixed_up():
    a, b = detections(seed=0), detections(seed=1)
    assert compare_detections([a, b], [a, b], TOLERANCE).num_unmatched == 0
    assert compare_detections([b, a], [a, b], TOLERANCE).num_unmatched == 400


def test_without_detections_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="nothing to compare"):
        compare(detections()[:0], detections()[:0]).check(TOLERANCE)


@pytest.mark.parametrize("value", [2e-3, math.nan])
def test_features_that_differ(value):
    result = compare_detections([detections()], [detections()], TOLERANCE, features=value)
    with pytest.raises(ValueError, match="features of the exported graph"):
        result.check(TOLERANCE)


def test_largest_difference():
    expected = torch.tensor([1.0, -4.0])
    assert largest_difference(torch.tensor([1.5, -4.0]), expected) == 0.125
    assert math.isnan(largest_difference(torch.tensor([math.nan, 0]), expected))
    assert largest_difference(torch.zeros(2), torch.zeros(2)) == 0
