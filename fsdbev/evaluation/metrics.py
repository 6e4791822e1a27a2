"""nuScenes' detection metrics, computed on arrays of all boxes at once.

The definitions (nuScenes, detection task, "Evaluation metrics"): average precision over recall for
four distance thresholds, and errors of translation, scale, orientation, velocity and attribute of
the matches at one of them. The devkit computes them box by box. Here all boxes are matched and
measured together; the curves of 101 points that result are left to the devkit's own functions.

Shapes: N predictions, K matches, E errors (``TP_METRICS``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from nuscenes.eval.detection.algo import calc_ap, calc_tp
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import (
    DetectionConfig,
    DetectionMetricData,
    DetectionMetricDataList,
    DetectionMetrics,
)

from .box_arrays import ATTRIBUTES, CLASSES, BoxArrays, Floats, Ints
from .matching import by_score, close_pairs, match
from .truth import GroundTruth

#: Errors that a class does not have: cones look alike from all sides, neither moves.
NO_SUCH_ERROR = {
    "traffic_cone": ("orient_err", "vel_err", "attr_err"),
    "barrier": ("vel_err", "attr_err"),
}
#: Front and back of a barrier look alike.
_HALF_TURN = CLASSES.index("barrier")


@dataclass(frozen=True)
class Matches:
    """N predictions, best first, and which of K matches each has at each distance threshold.

    Attributes:
        predictions: those that count, falling scores.
        truth: the true boxes that count.
        match_of: threshold in metres -> (N,) which match each prediction is of, -1 for none.
        true_box: (K,) positions in ``truth``.
        errors: (E, K) errors of the matches.
    """

    predictions: BoxArrays
    truth: BoxArrays
    match_of: Mapping[float, Ints]
    true_box: Ints
    errors: Floats

    def curves(self, threshold: float, chosen: Ints, positives: int) -> DetectionMetricData:
        """Curves of the predictions ``chosen``, rising positions, of ``positives`` true boxes."""
        match_of = self.match_of[threshold][chosen]
        is_match = match_of >= 0
        scores = self.predictions.score[chosen]
        return _curves(scores, is_match, self.errors[:, match_of[is_match]], positives)


@dataclass(frozen=True)
class Scores:
    """What ``score`` computes.

    Attributes:
        matches: what it computes from.
        metrics, curves: as the devkit's ``DetectionEval.evaluate`` returns them: the summary, and
            precision, confidence and errors over recall by class and distance threshold.
    """

    matches: Matches
    metrics: DetectionMetrics
    curves: DetectionMetricDataList


def score(predictions: BoxArrays, truth: GroundTruth, config: DetectionConfig) -> Scores:
    """Matches predictions with true boxes and computes the metrics."""
    begin = time.time()
    matches = find_matches(predictions, truth, config)
    curves = DetectionMetricDataList()
    metrics = DetectionMetrics(config)
    for name in config.class_names:
        class_id = CLASSES.index(name)
        own = np.flatnonzero(matches.predictions.class_id == class_id)
        positives = np.count_nonzero(matches.truth.class_id == class_id)
        for threshold in config.dist_ths:
            curve = matches.curves(threshold, own, positives)
            curves.set(name, threshold, curve)
            precision = calc_ap(curve, config.min_recall, config.min_precision)
            metrics.add_label_ap(name, threshold, precision)
        for error in TP_METRICS:
            known = error not in NO_SUCH_ERROR.get(name, ())
            curve = curves[name, config.dist_th_tp]
            value = calc_tp(curve, config.min_recall, error) if known else np.nan
            metrics.add_label_tp(name, error, value)
    metrics.add_runtime(time.time() - begin)
    return Scores(matches, metrics, curves)


def find_matches(predictions: BoxArrays, truth: GroundTruth, config: DetectionConfig) -> Matches:
    """Matches predictions with true boxes of their sample and class at all of ``config``'s
    thresholds, by the distance of centres."""
    predictions = by_score(truth.scope.select(predictions))
    pairs = close_pairs(predictions, truth.boxes, max(config.dist_ths))
    found = {t: match(pairs, len(truth.boxes), t) for t in config.dist_ths}
    used = np.unique(np.concatenate(list(found.values())))
    match_of = {t: np.full(len(predictions), -1) for t in config.dist_ths}
    for threshold, of in match_of.items():
        of[pairs.prediction[found[threshold]]] = np.searchsorted(used, found[threshold])
    errors = match_errors(
        predictions.select(pairs.prediction[used]),
        truth.boxes.select(pairs.truth[used]),
        pairs.distance[used],
    )
    return Matches(predictions, truth.boxes, match_of, pairs.truth[used], errors)


def match_errors(found: BoxArrays, true: BoxArrays, distance: Floats) -> Floats:
    """(E, K) errors of K predictions against their true boxes, in the order of ``TP_METRICS``;
    NaN where the true box has no such property."""
    errors = {
        "trans_err": distance,
        "scale_err": 1 - _size_overlap(true.size, found.size),
        "orient_err": _turn(true, found),
        "vel_err": np.linalg.norm(found.velocity - true.velocity, axis=1),
        "attr_err": np.where(
            true.attribute == ATTRIBUTES.index(""), np.nan, true.attribute != found.attribute
        ),
    }
    return np.stack([errors[name] for name in TP_METRICS])


def _size_overlap(one: Floats, other: Floats) -> Floats:
    """(K,) intersection over union of boxes laid into each other."""
    shared = np.minimum(one, other).prod(axis=1)
    return shared / (one.prod(axis=1) + other.prod(axis=1) - shared)


def _turn(true: BoxArrays, found: BoxArrays) -> Floats:
    """(K,) angles between headings in radians, at most half the period."""
    period = np.where(true.class_id == _HALF_TURN, np.pi, 2 * np.pi)
    turn = _yaws(true.rotation) - _yaws(found.rotation)
    return np.abs((turn + period / 2) % period - period / 2)


def _yaws(quaternions: Floats) -> Floats:
    """(K,) headings in the plane of (K, 4) rotations of any norm, radians."""
    w, x, y, z = quaternions.T
    return np.arctan2(2 * (x * y + w * z), w * w + x * x - y * y - z * z)


def _curves(
    scores: Floats, is_match: NDArray[np.bool_], errors: Floats, positives: int
) -> DetectionMetricData:
    """Curves of one class and threshold at 101 recalls.

    Args:
        scores: of the predictions, falling.
        is_match: which of them found a true box.
        errors: (E, K) of those.
        positives: number of true boxes.
    """
    if not is_match.any():
        return DetectionMetricData.no_predictions()
    hits = np.cumsum(is_match).astype(np.float64)
    misses = np.cumsum(~is_match).astype(np.float64)
    recall = np.linspace(0, 1, DetectionMetricData.nelem)
    reached = hits / positives
    confidence = np.interp(recall, reached, scores, right=0)
    # Errors over confidence, whose order must rise for the interpolation.
    rising, own = confidence[::-1], scores[is_match][::-1]
    return DetectionMetricData(
        recall=recall,
        precision=np.interp(recall, reached, hits / (misses + hits), right=0),
        confidence=confidence,
        **{
            name: np.interp(rising, own, _running_mean(values)[::-1])[::-1]
            for name, values in zip(TP_METRICS, errors, strict=True)
        },
    )


def _running_mean(values: Floats) -> Floats:
    """(K,) means of the values up to each place but NaN; 0 before the first, 1 if all are NaN."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    count = np.cumsum(known)
    total = np.cumsum(np.where(known, values, 0.0))
    return np.divide(total, count, out=np.zeros_like(total), where=count != 0)
