"""Error analysis of detections: by hand, and consistent with the metrics."""

import math

import numpy as np
import pytest
from box_cases import boxes

from fsdbev.evaluation.by_distance import band_starts
from fsdbev.evaluation.by_sample import SampleCounts
from fsdbev.evaluation.error_analysis import analyse, confusion
from fsdbev.evaluation.metrics import score
from fsdbev.evaluation.nuscenes_truth import nuscenes_task
from fsdbev.evaluation.truth import DetectionTask, GroundTruth, Scope
from fsdbev.structures import NUSCENES_CLASSES, ClassSet

TASK = nuscenes_task(NUSCENES_CLASSES)
CLASSES = TASK.names
CAR, TRUCK, CONE = (CLASSES.index(name) for name in ("car", "truck", "traffic_cone"))


def predicted(*rows):
    """Returns boxes ``(sample, class, x, score)``; the ego is at 0."""
    sample, class_id, x, score = np.array(rows, float).reshape(-1, 4).T
    return boxes(np.stack([x, 0 * x], 1), sample, class_id, score)


def truth_of(*rows, samples=2, task=TASK):
    """Returns ground truth ``(sample, class, x)``."""
    scope = Scope(ego=np.zeros((samples, 2)), ranges=task.ranges)
    return GroundTruth(scope.select(predicted(*((*row, -1) for row in rows))), scope)


def analysis_of(predictions, truth, task=TASK):
    return analyse(score(predictions, truth, task), truth.scope.ego, task)


def analyse_rows(predictions, truth, task=TASK):
    return analysis_of(predicted(*predictions), truth, task)


@pytest.fixture(scope="module")
def scattered():
    """Some hundred random boxes of three classes, most of them with a prediction nearby."""
    rng = np.random.default_rng(0)
    true = [(i % 20, rng.choice([CAR, TRUCK, CONE]), rng.uniform(2, 45)) for i in range(300)]
    near = [(s, c, x + rng.normal(0, 1.0), rng.uniform(0, 1)) for s, c, x in true[:240]]
    far = [(rng.integers(20), CAR, rng.uniform(2, 48), rng.uniform(0, 0.6)) for _ in range(150)]
    truth = truth_of(*true, samples=20)
    predictions = predicted(*near, *far)
    return predictions, truth, analysis_of(predictions, truth)


def test_bands_add_up_to_the_total(scattered):
    _, truth, analysis = scattered
    bands = analysis.bands
    assert bands.num_truth.sum() == len(truth.boxes) == analysis.num_truth.sum()
    assert bands.found_above.sum() == analysis.samples.found.sum()
    assert bands.found.sum() == len(analysis.errors["trans_err"])
    assert (bands.found_above <= bands.found).all() and (bands.found <= bands.num_truth).all()
    assert (np.isnan(bands.average_precision) == (bands.num_truth == 0)).all()


def test_no_other_threshold_has_a_better_f1(scattered):
    predictions, truth, analysis = scattered
    point, counts = analysis.point, analysis.samples
    found = 2 * counts.found.sum()
    assert point.f1 == pytest.approx(found / (found + counts.mistakes.sum()))
    assert 0 < point.score < 1 and round(point.score, 3) == point.score
    for threshold in np.linspace(0, 1, 21):
        kept = predictions.select(predictions.score >= threshold)
        hits = analysis_of(kept, truth).found_scores.sum()
        assert 2 * hits / (len(kept) + len(truth.boxes)) <= point.f1 + 1e-9


def test_a_match_across_bands_counts_in_that_of_the_true_box():
    analysis = analyse_rows([(0, CAR, 10.4, 0.9)], truth_of((0, CAR, 9.8)))
    bands = analysis.bands
    assert bands.num_truth[CAR].tolist() == bands.found[CAR].tolist() == [1, 0, 0, 0, 0]
    assert bands.average_precision[CAR, 0] == pytest.approx(0.75)  # not found within 0.5 m
    assert np.isnan(bands.average_precision[CAR, 1])


def test_a_false_positive_lowers_the_precision_of_its_own_band_only():
    true = [(0, CAR, 5.0), (0, CAR, 25.0)]
    found = [(0, CAR, 5.0, 0.5), (0, CAR, 25.0, 0.5)]
    bands = analyse_rows([*found, (0, CAR, 15.0, 0.9), (0, CAR, 29.0, 0.9)], truth_of(*true)).bands
    assert bands.average_precision[CAR, 0] == pytest.approx(1.0)
    assert bands.average_precision[CAR, 2] < 0.6


def test_starts_of_the_bands():
    starts = band_starts(TASK.ranges.max())
    assert starts.tolist() == [0, 10, 20, 30, 40]
    true = [(0, CAR, start + 0.01) for start in starts]
    assert analyse_rows([], truth_of(*true)).bands.num_truth[CAR].tolist() == [1] * len(starts)


def test_bands_reach_as_far_as_the_classes():
    task = DetectionTask.of(ClassSet(names=["near", "far"], ranges={"near": 25.0, "far": 120.0}))
    true = [(0, 0, 24.0), (0, 0, 26.0), (0, 1, 5.0), (0, 1, 119.0)]
    bands = analyse_rows([(0, 1, 119.5, 0.9)], truth_of(*true, task=task), task).bands
    assert bands.starts.tolist() == [0, 20, 40, 60, 80, 100]
    assert bands.num_truth.tolist() == [[0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1]]
    assert bands.found[1].tolist() == [0, 0, 0, 0, 0, 1]
    assert band_starts(25.0).tolist() == [0, 10, 20] and len(band_starts(100.0)) == 10


def test_confusion_takes_the_nearest_free_box_of_any_class():
    truth = truth_of((0, CAR, 10.0), (0, TRUCK, 11.5), (1, CONE, 5.0))
    predictions = [
        (0, TRUCK, 10.2, 0.9),  # nearest is the car
        (0, TRUCK, 10.4, 0.8),  # the car is matched already, the truck is within 2 m
        (0, CAR, 30.0, 0.7),  # no object within 2 m
    ]
    table = confusion(predicted(*predictions), truth.boxes, 2.0, len(CLASSES))
    nothing = len(CLASSES)
    assert table[CAR, TRUCK] == table[TRUCK, TRUCK] == 1
    assert table[nothing, CAR] == table[CONE, nothing] == 1
    assert table.sum() == 4


def test_samples_are_counted_by_class():
    truth = truth_of((0, CAR, 10.0), (0, TRUCK, 20.0), (1, CAR, 10.0))
    predictions = [(0, CAR, 10.0, 0.9), (0, CONE, 5.0, 0.9), (1, CAR, 10.0, 0.9)]
    counts = analyse_rows(predictions, truth).samples
    assert counts.found[:, CAR].tolist() == [1, 1]
    assert counts.missed.sum() == counts.missed[0, TRUCK] == 1
    assert counts.false.sum() == counts.false[0, CONE] == 1
    assert counts.f1.tolist() == [0.5, 1.0]
    assert counts.worst(2, ["a", "b"]) == [0]  # the other one has no error
    assert counts.best(2, ["a", "b"]) == [1, 0]


def test_best_and_worst_samples_are_from_different_scenes_if_possible():
    f1_order = np.arange(1, 6)[:, None] * np.eye(1, len(CLASSES), dtype=int)
    counts = SampleCounts(found=f1_order, missed=0 * f1_order + 1, false=0 * f1_order)
    scenes = ["a", "a", "a", "b", "b"]
    assert counts.best(2, scenes) == [4, 2]
    assert counts.worst(2, scenes) == [0, 3]
    assert counts.worst(3, scenes) == [0, 1, 3]
    assert counts.best(9, scenes) == [4, 3, 2, 1, 0]
    assert counts.best(0, scenes) == []


def test_a_sample_without_boxes_is_neither_best_nor_worst():
    counts = analyse_rows([(0, CAR, 10.0, 0.9)], truth_of((0, CAR, 10.0))).samples
    assert math.isnan(counts.f1[1])
    assert counts.best(2, ["a", "b"]) == [0] and counts.worst(2, ["a", "b"]) == []


def test_errors_exclude_those_that_a_class_does_not_have():
    truth = truth_of((0, CAR, 10.0), (0, CONE, 5.0))
    errors = analyse_rows([(0, CAR, 10.5, 0.9), (0, CONE, 5.0, 0.9)], truth).errors
    assert sorted(errors["trans_err"]) == pytest.approx([0, 0.5])
    assert len(errors["orient_err"]) == len(errors["vel_err"]) == 1


def test_histograms_of_matched_and_unmatched_scores():
    truth = truth_of((0, CAR, 10.0))
    analysis = analyse_rows(
        [(0, CAR, 10.0, 0.98), (0, CAR, 30.0, 0.02), (0, CAR, 31.0, 1.2)], truth
    )
    assert np.flatnonzero(analysis.found_scores).tolist() == [19]
    assert np.flatnonzero(analysis.false_scores).tolist() == [0, 19]


@pytest.mark.parametrize("predictions", [[], [(0, CAR, 10.0, 0.9)]])
@pytest.mark.parametrize("true", [[], [(0, CAR, 10.0)]])
def test_without_predictions_or_ground_truth(predictions, true):
    analysis = analyse_rows(predictions, truth_of(*true))
    both = bool(predictions and true)
    assert analysis.point.f1 == float(both)
    assert analysis.confusion.sum() == max(len(predictions), len(true))
    assert analysis.samples.found.sum() == both
    assert analysis.precision.max() == float(both)


def test_equal_scores_are_accepted_together():
    """The best F1 would need two of three equal scores, but a threshold accepts all or none."""
    true = [(0, CAR, 10.0 * i) for i in (1, 2)]
    predictions = [(0, CAR, 10.0, 0.5), (0, CAR, 20.0, 0.5), (0, CAR, 35.0, 0.5)]
    point = analyse_rows(predictions, truth_of(*true)).point
    assert (point.score, point.recall) == (0.5, 1.0)
    assert point.precision == pytest.approx(2 / 3)
