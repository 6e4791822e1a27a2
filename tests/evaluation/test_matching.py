"""Matching of all samples at once, against the sequential rule."""

import numpy as np
import pytest
from box_cases import boxes
from hypothesis import given, settings, strategies as st

from fsdbev.evaluation.box_arrays import submission_arrays
from fsdbev.evaluation.matching import by_score, close_pairs, equal_pairs, match

NAMES, ATTRIBUTES = ("car", "cone"), ("", "moving")


def matches(predictions, truth, threshold, max_distance=4.0):
    pairs = close_pairs(predictions, truth, max_distance)
    found = match(pairs, len(truth), threshold)
    return list(zip(pairs.prediction[found].tolist(), pairs.truth[found].tolist(), strict=True))


def sequential_matches(predictions, truth, threshold):
    taken, found = set(), []
    for i in range(len(predictions)):
        nearest, best = None, np.inf
        for j in range(len(truth)):
            same = (
                truth.sample[j] == predictions.sample[i]
                and truth.class_id[j] == predictions.class_id[i]
            )
            distance = np.linalg.norm(predictions.center[i, :2] - truth.center[j, :2])
            if same and j not in taken and distance < best:
                nearest, best = j, distance
        if best < threshold:
            taken.add(nearest)
            found.append((i, nearest))
    return found


@pytest.mark.parametrize(
    ("predictions", "truth", "threshold", "expected"),
    [
        # Each matches the nearest free box: prediction 1 the farther one, prediction 2 none.
        ([(0, 0), (0.4, 0), (0.5, 0)], [(2, 0), (0.3, 0)], 4.0, [(0, 1), (1, 0)]),
        ([(0, 0), (0.4, 0), (0.5, 0)], [(2, 0), (0.3, 0)], 1.0, [(0, 1)]),
        # Prediction 2 is nearest to box 1, which prediction 1 matches after box 0 was taken; then
        # prediction 2 matches box 2 instead of prediction 3.
        (
            [(0, 0), (0.1, 0), (1.2, 0), (3.1, 0)],
            [(0, 0), (1, 0), (3, 0), (9, 0)],
            4.0,
            [(0, 0), (1, 1), (2, 2)],
        ),
        # Of boxes at equal distance the first is matched.
        ([(0, 0)], [(1, 0), (0, 1), (-1, 0)], 2.0, [(0, 0)]),
        # The distance must be below the threshold.
        ([(0, 0)], [(0, 2)], 2.0, []),
        ([(0, 0)], [(0, np.nextafter(2, 0))], 2.0, [(0, 0)]),
        ([], [], 4.0, []),
        ([(0, 0)] * 3, [], 4.0, []),
        ([], [(0, 0)] * 3, 4.0, []),
    ],
)
def test_by_hand(predictions, truth, threshold, expected):
    assert matches(boxes(predictions), boxes(truth), threshold) == expected


def test_only_within_sample_and_class():
    predictions = boxes([(0, 0)] * 3, sample=[0, 1, 1], class_id=[3, 3, 4])
    truth = boxes([(0, 0)] * 2, sample=[1, 0], class_id=[3, 4])
    assert matches(predictions, truth, 0.5) == [(1, 0)]


def test_equal_scores_last_first():
    ordered = by_score(boxes(np.arange(10).reshape(5, 2), score=[0.5, 0.9, 0.5, -0.0, 0.0]))
    assert ordered.center[:, 0].tolist() == [2, 4, 0, 8, 6]


@given(
    seed=st.integers(0, 2**32 - 1),
    num_predictions=st.integers(0, 40),
    num_truth=st.integers(0, 20),
    num_samples=st.integers(1, 3),
    num_classes=st.integers(1, 3),
    steps=st.sampled_from([4, 12, 10**6]),
)
@settings(max_examples=50, deadline=None)
def test_as_sequential_matches(seed, num_predictions, num_truth, num_samples, num_classes, steps):
    """Coarse steps make many distances equal to each other and to the threshold."""
    rng = np.random.default_rng(seed)

    def drawn(count):
        return boxes(
            rng.integers(0, steps, (count, 2)) * (6 / steps),
            rng.integers(0, num_samples, count),
            rng.integers(0, num_classes, count),
        )

    predictions, truth = drawn(num_predictions), drawn(num_truth)
    for threshold in (0.5, 2.0, 4.0):
        expected = sequential_matches(predictions, truth, threshold)
        assert matches(predictions, truth, threshold) == expected


def test_pairs_over_several_chunks(monkeypatch):
    monkeypatch.setattr("fsdbev.evaluation.matching._CHUNK", 3)
    left, right = np.array([1, 5, 2, 1, 7, 2, 2]), np.array([2, 1, 2, 3])
    chunks = list(equal_pairs(left, right))
    assert len(chunks) == 3
    assert [pair for i, j in chunks for pair in zip(i.tolist(), j.tolist(), strict=True)] == [
        (i, j) for i in range(len(left)) for j in range(len(right)) if left[i] == right[j]
    ]


def test_arrays_keep_the_order_of_the_submission():
    def box(x, name, attribute):
        return {
            "translation": [x, 0, 1],
            "size": [1, 2, 3],
            "rotation": [1, 0, 0, 0],
            "velocity": [0.5, -1],
            "detection_name": name,
            "detection_score": 0.25,
            "attribute_name": attribute,
        }

    def arrays_of(results):
        return submission_arrays(results, NAMES, ATTRIBUTES)

    car, cone = box(4, "car", "moving"), box(7, "cone", "")
    arrays = arrays_of({"a": [car, cone], "b": [], "c": [car]})
    assert arrays.sample.tolist() == [0, 0, 2]
    assert arrays.center[:, 0].tolist() == [4, 7, 4] and arrays.center.dtype == np.float64
    assert arrays.class_id.tolist() == [0, 1, 0] and arrays.attribute.tolist() == [1, 0, 1]
    assert arrays.size.shape == (3, 3) and arrays.velocity.tolist() == [[0.5, -1]] * 3
    assert len(arrays_of({})) == len(arrays_of({"a": []})) == 0
    with pytest.raises(ValueError, match="unknown name 'horse'.*'car'"):
        arrays_of({"a": [box(0, "horse", "")]})
