"""A closer look at detections than their metrics: where precision is lost, and to what.

Made of the metrics' own boxes and matches; only the confusion of classes is matched anew.

Shapes: C classes, those of ``CLASSES``, T distance thresholds, R recalls, B score bins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionConfig, DetectionMetricData

from .box_arrays import CLASSES, BoxArrays, Floats, Ints
from .by_distance import DistanceBands, measure_bands
from .by_sample import SampleCounts, count_by_sample
from .matching import by_score, close_pairs, match
from .metrics import NO_SUCH_ERROR, Matches, Scores

SCORE_BINS = 20
#: Digits of the operating point's score, so that what is stated is what was used.
_SCORE_DIGITS = 3


@dataclass(frozen=True)
class OperatingPoint:
    """The score from which on predictions are taken, where their F1 over all classes is best.

    Attributes:
        score: 0 where nothing was predicted.
        precision: share of the predictions taken that found a true box.
        recall: share of the true boxes that were found.
    """

    score: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True)
class Analysis:
    """What ``analyse`` finds.

    Attributes:
        thresholds: T distances up to which a prediction finds a true box, metres.
        error_threshold: the one of them that errors, scores, samples and confusion are taken at.
        num_truth: (C,) true boxes that count.
        num_predictions: (C,) predictions that count.
        precision: (C, T, R) over ``recall`` (R,), as the metrics' average precision takes it.
        errors: metric of ``TP_METRICS`` -> errors of all matches that have it, in its own unit.
        found_scores, false_scores: (B,) number of predictions with and without a true box in equal
            bins of scores from 0 to 1.
        point: the operating point, of which the following are.
        bands: metrics by distance.
        samples: counts by sample.
        confusion: (C + 1, C + 1) boxes by true class (row) and predicted class (column), matched
            by distance alone; last row: predictions without a true box, last column: true boxes
            without a prediction.
    """

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


def analyse(scores: Scores, ego: Floats, config: DetectionConfig) -> Analysis:
    """Takes a closer look at predictions that were scored.

    Args:
        ego: (samples, 2) positions of the ego vehicle in the global frame, metres.
    """
    matches, threshold = scores.matches, config.dist_th_tp
    point = operating_point(matches, threshold)
    is_match = matches.match_of[threshold] >= 0
    confidences = matches.predictions.score
    taken = matches.predictions.select(confidences >= point.score)
    precision = [[scores.curves[name, t].precision for t in config.dist_ths] for name in CLASSES]
    return Analysis(
        thresholds=tuple(config.dist_ths),
        error_threshold=threshold,
        num_truth=_by_class(matches.truth),
        num_predictions=_by_class(matches.predictions),
        recall=np.linspace(0, 1, DetectionMetricData.nelem),
        precision=np.array(precision),
        errors=_errors(matches, threshold),
        found_scores=_score_histogram(confidences[is_match]),
        false_scores=_score_histogram(confidences[~is_match]),
        point=point,
        bands=measure_bands(matches, ego, config, point.score),
        samples=count_by_sample(matches, len(ego), threshold, point.score),
        confusion=confusion(taken, matches.truth, threshold),
    )


def operating_point(matches: Matches, threshold: float) -> OperatingPoint:
    """The score of best F1 over all classes and samples, rounded down to three digits.

    Predictions are matched by falling score, so that those above a score have the same matches
    with and without the rest: one matching serves all scores.
    """
    scores, count = matches.predictions.score, len(matches.predictions)
    if not count:
        return OperatingPoint(0.0, 0.0, 0.0)
    hits = np.cumsum(matches.match_of[threshold] >= 0)
    is_last = np.append(scores[1:] < scores[:-1], True)  # equal scores are taken together
    f1 = np.where(is_last, 2 * hits / (np.arange(1, count + 1) + len(matches.truth)), -1.0)
    scale = 10**_SCORE_DIGITS
    score = float(np.floor(scores[np.argmax(f1)] * scale) / scale)
    taken = np.count_nonzero(scores >= score)
    found = hits[taken - 1]
    return OperatingPoint(score, found / taken, found / max(1, len(matches.truth)))


def confusion(predictions: BoxArrays, truth: BoxArrays, threshold: float) -> Ints:
    """(C + 1, C + 1) table as in ``Analysis``: the predictions, best first, each take the nearest
    true box of their sample that is free and nearer than ``threshold`` metres, of whatever class.
    """
    predictions = by_score(predictions)
    pairs = close_pairs(_without_class(predictions), _without_class(truth), threshold)
    found = match(pairs, len(truth), threshold)
    nothing = len(CLASSES)
    true_class = np.full(len(predictions), nothing)
    true_class[pairs.prediction[found]] = truth.class_id[pairs.truth[found]]
    missed = np.delete(truth.class_id, pairs.truth[found])
    table = np.zeros((nothing + 1, nothing + 1), np.int64)
    np.add.at(table, (true_class, predictions.class_id), 1)
    np.add.at(table, (missed, nothing), 1)
    return table


def _without_class(boxes: BoxArrays) -> BoxArrays:
    return dataclasses.replace(boxes, class_id=np.zeros_like(boxes.class_id))


def _by_class(boxes: BoxArrays) -> Ints:
    return np.bincount(boxes.class_id, minlength=len(CLASSES))


def _errors(matches: Matches, threshold: float) -> dict[str, Floats]:
    """By metric, those of the matches at ``threshold`` whose class and true box have the error."""
    match_of = matches.match_of[threshold]
    used = match_of[match_of >= 0]
    classes = matches.truth.class_id[matches.true_box[used]]
    errors = {}
    for row, metric in enumerate(TP_METRICS):
        without = [CLASSES.index(name) for name, lacks in NO_SUCH_ERROR.items() if metric in lacks]
        values = matches.errors[row, used][~np.isin(classes, without)]
        errors[metric] = values[~np.isnan(values)]
    return errors


def _score_histogram(scores: Floats) -> Ints:
    return np.histogram(np.clip(scores, 0, 1), SCORE_BINS, (0, 1))[0]
