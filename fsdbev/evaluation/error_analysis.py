"""Analysis of detections beyond their metrics: where precision is lost, and to which errors.

It uses the boxes and matches of the metrics; only the confusion of classes is matched again.

Shapes: C classes, S samples, T distance thresholds, R recalls, B score bins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionMetricData

from .box_arrays import BoxArrays, Floats, Ints
from .by_distance import DistanceBands, measure_bands
from .by_sample import SampleCounts, count_by_sample
from .matching import by_score, close_pairs, match
from .metrics import Matches, Scores
from .truth import DetectionTask

SCORE_BINS = 20
#: Decimals of the operating point's score. The report prints as many, so that the printed score
#: selects exactly the predictions that were used.
_SCORE_DIGITS = 3


@dataclass(frozen=True)
class OperatingPoint:
    """The score threshold of best F1 over all classes.

    Attributes:
        score: the threshold; 0 without predictions.
        precision: true positives / predictions at or above the threshold.
        recall: true positives / ground-truth boxes.
    """

    score: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True)
class Analysis:
    """Result of :func:`analyse`.

    Attributes:
        names: C class names.
        thresholds: T distance thresholds of a match, metres.
        error_threshold: the one that errors, scores, samples and confusion use (the devkit's
            ``dist_th_tp``), metres.
        num_truth: (C,) evaluated ground-truth boxes.
        num_predictions: (C,) evaluated predictions.
        recall: (R,) recalls of ``precision``.
        precision: (C, T, R) precision over recall, as average precision uses it.
        errors: metric of ``TP_METRICS`` -> errors of all matches that have it, in the metric's unit
            (m, 1 - IoU, rad, m/s, 0 or 1).
        found_scores: (B,) number of true positives in equal bins of scores from 0 to 1.
        false_scores: (B,) number of false positives in the same bins.
        point: the operating point, which ``bands``, ``samples`` and ``confusion`` use.
        bands: metrics by distance.
        samples: counts by sample.
        confusion: (C + 1, C + 1) boxes by true class (row) and predicted class (column), matched
            by distance only; last row: false positives, last column: false negatives.
    """

    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    error_threshold: float
    num_truth: Ints
    num_predictions: Ints
    recall: Floats
    precision: Floats
    errors: Mapping[str, Floats]
    found_scores: Ints
    false_scores: Ints
    point: OperatingPoint
    bands: DistanceBands
    samples: SampleCounts
    confusion: Ints


def analyse(scores: Scores, ego: Floats, task: DetectionTask) -> Analysis:
    """Analyses scored predictions.

    Args:
        scores: result of :func:`.metrics.score`.
        ego: (S, 2) positions of the ego vehicle in the global frame by sample, metres.
        task: classes, ranges and thresholds.
    """
    matches, thresholds = scores.matches, task.config.dist_ths
    threshold, num_classes = task.config.dist_th_tp, len(task.names)
    point = operating_point(matches, threshold)
    is_match = matches.match_of[threshold] >= 0
    confidences = matches.predictions.score
    above = matches.predictions.select(confidences >= point.score)
    precision = [[scores.curves[name, t].precision for t in thresholds] for name in task.names]
    return Analysis(
        names=task.names,
        thresholds=tuple(thresholds),
        error_threshold=threshold,
        num_truth=_count_by_class(matches.truth, num_classes),
        num_predictions=_count_by_class(matches.predictions, num_classes),
        recall=np.linspace(0, 1, DetectionMetricData.nelem),
        precision=np.array(precision),
        errors=_errors(matches, task),
        found_scores=_score_histogram(confidences[is_match]),
        false_scores=_score_histogram(confidences[~is_match]),
        point=point,
        bands=measure_bands(matches, ego, task, point.score),
        samples=count_by_sample(matches, (len(ego), num_classes), threshold, point.score),
        confusion=confusion(above, matches.truth, threshold, num_classes),
    )


def operating_point(matches: Matches, threshold: float) -> OperatingPoint:
    """Finds the score of best F1 over all classes and samples, rounded down to three decimals.

    Args:
        matches: predictions matched with the ground truth.
        threshold: distance threshold of the matches, metres.
    """
    scores, count = matches.predictions.score, len(matches.predictions)
    if not count:
        return OperatingPoint(0.0, 0.0, 0.0)
    # Matching visits predictions by descending score, so removing those below a score leaves the
    # matches of the others as they are: one matching serves all scores.
    true_positives = np.cumsum(matches.match_of[threshold] >= 0)
    # A threshold cannot separate equal scores, so F1 is taken at the last of them.
    is_last = np.append(scores[1:] < scores[:-1], True)
    num_boxes = np.arange(1, count + 1) + len(matches.truth)
    f1 = np.where(is_last, 2 * true_positives / num_boxes, -1.0)
    scale = 10**_SCORE_DIGITS
    score = float(np.floor(scores[np.argmax(f1)] * scale) / scale)
    # Rounding down may admit more predictions, so precision and recall are those of the rounded
    # score.
    num_above = np.count_nonzero(scores >= score)
    found = true_positives[num_above - 1]
    # Without ground truth nothing is found, and recall is 0 / 1.
    return OperatingPoint(score, found / num_above, found / max(1, len(matches.truth)))


def confusion(predictions: BoxArrays, truth: BoxArrays, threshold: float, num_classes: int) -> Ints:
    """Computes the (C + 1, C + 1) confusion table of ``Analysis``.

    Matches by nuScenes' rule (:mod:`.matching`), but across classes: each prediction, best first,
    matches the nearest unmatched ground-truth box of its sample, whatever the class.

    Args:
        predictions: evaluated predictions.
        truth: evaluated ground-truth boxes.
        threshold: matches are nearer than this, metres.
        num_classes: C.
    """
    predictions = by_score(predictions)
    pairs = close_pairs(_as_one_class(predictions), _as_one_class(truth), threshold)
    found = match(pairs, len(truth), threshold)
    background = num_classes
    true_class = np.full(len(predictions), background)
    true_class[pairs.prediction[found]] = truth.class_id[pairs.truth[found]]
    missed = np.delete(truth.class_id, pairs.truth[found])
    table = np.zeros((background + 1, background + 1), np.int64)
    # table[rows, columns] += 1 would count repeated cells once; add.at counts each.
    np.add.at(table, (true_class, predictions.class_id), 1)
    np.add.at(table, (missed, background), 1)
    return table


def _as_one_class(boxes: BoxArrays) -> BoxArrays:
    """Gives all boxes the same class, so that matching ignores classes."""
    return dataclasses.replace(boxes, class_id=np.zeros_like(boxes.class_id))


def _count_by_class(boxes: BoxArrays, num_classes: int) -> Ints:
    """Returns the (C,) number of boxes."""
    return np.bincount(boxes.class_id, minlength=num_classes)


def _errors(matches: Matches, task: DetectionTask) -> dict[str, Floats]:
    """Returns metric -> errors of the matches at the threshold of the TP errors, without classes
    and ground-truth boxes for which the metric is undefined."""
    match_of = matches.match_of[task.config.dist_th_tp]
    used = match_of[match_of >= 0]
    classes = matches.truth.class_id[matches.true_box[used]]
    errors = {}
    for row, metric in enumerate(TP_METRICS):
        values = matches.errors[row, used][~np.isin(classes, task.ids_without(metric))]
        errors[metric] = values[~np.isnan(values)]
    return errors


def _score_histogram(scores: Floats) -> Ints:
    """Returns (B,) counts; scores outside of [0, 1] count in the first or last bin."""
    return np.histogram(np.clip(scores, 0, 1), SCORE_BINS, (0, 1))[0]
