"""nuScenes' detection metrics, computed on arrays of all boxes at once.

Average precision (AP) over recall for four distance thresholds, and the true positive (TP) errors
of translation, scale, orientation, velocity and attribute at one of the thresholds (nuScenes,
arXiv:1903.11027, section 3.1; devkit, ``eval/detection/README.md``, "Evaluation metrics"). The
devkit's loops over boxes are replaced by array operations; the resulting curves of 101 points are
reduced by the devkit's own functions.

Shapes: N predictions, K matches, E errors (``TP_METRICS``), R recalls (101).
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nuscenes.eval.detection.algo import calc_ap, calc_tp
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import (
    DetectionMetricData,
    DetectionMetricDataList,
    DetectionMetrics,
)

from .box_arrays import BoxArrays, Floats, Ints
from .matching import by_score, close_pairs, match
from .truth import DetectionTask, GroundTruth


class MetricsSummary(DetectionMetrics):
    """The devkit's summary for any classes: a TP error that no class has is NaN, and NDS is the
    weighted mean of mAP and the other errors."""

    @property
    def tp_errors(self) -> dict[str, float]:
        """Metric of ``TP_METRICS`` -> mean error over the classes that have it."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            return super().tp_errors

    @property
    def tp_scores(self) -> dict[str, float]:
        """Metric -> 1 - error, at least 0, of the errors that a class has; summands of NDS."""
        errors = self.tp_errors
        return {n: score for n, score in super().tp_scores.items() if not math.isnan(errors[n])}


#: Key of a TP error in the devkit's summary -> name of its mean in nuScenes' result tables.
TP_ERROR_NAMES = {
    "trans_err": "mATE",
    "scale_err": "mASE",
    "orient_err": "mAOE",
    "vel_err": "mAVE",
    "attr_err": "mAAE",
}


@dataclass(frozen=True)
class Matches:
    """N predictions, best first, and their K matches over all distance thresholds.

    Attributes:
        predictions: evaluated predictions, by descending score.
        truth: evaluated ground-truth boxes.
        match_of: threshold in metres -> (N,) index of each prediction's match, -1 for none.
        true_box: (K,) index of each match's ground-truth box in ``truth``.
        errors: (E, K) TP errors of the matches.
    """

    predictions: BoxArrays
    truth: BoxArrays
    match_of: Mapping[float, Ints]
    true_box: Ints
    errors: Floats

    def curves(self, threshold: float, chosen: Ints, positives: int) -> DetectionMetricData:
        """Computes the curves of a subset of the predictions.

        Args:
            threshold: distance threshold, metres.
            chosen: ascending indices of the predictions.
            positives: number of ground-truth boxes that recall refers to.
        """
        match_of = self.match_of[threshold][chosen]
        is_match = match_of >= 0
        scores = self.predictions.score[chosen]
        return _curves(scores, is_match, self.errors[:, match_of[is_match]], positives)


@dataclass(frozen=True)
class Scores:
    """Result of :func:`score`.

    Attributes:
        matches: the matches behind the metrics.
        metrics: summary, for nuScenes' classes as the devkit's ``DetectionEval.evaluate`` returns
            it.
        curves: precision, confidence and TP errors over recall by class and distance threshold, as
            the devkit returns them.
    """

    matches: Matches
    metrics: DetectionMetrics
    curves: DetectionMetricDataList


def score(predictions: BoxArrays, truth: GroundTruth, task: DetectionTask) -> Scores:
    """Matches predictions with the ground truth and computes the metrics.

    Args:
        predictions: boxes of the submission in the global frame.
        truth: evaluated ground truth of the same samples.
        task: classes, ranges and thresholds.
    """
    begin = time.time()
    matches = find_matches(predictions, truth, task)
    metrics, curves = compute_metrics(matches, task)
    metrics.add_runtime(time.time() - begin)
    return Scores(matches, metrics, curves)


def compute_metrics(
    matches: Matches, task: DetectionTask, times: Ints | None = None
) -> tuple[MetricsSummary, DetectionMetricDataList]:
    """Computes the metrics of matched predictions.

    Args:
        matches: predictions matched with the ground truth.
        task: classes, ranges and thresholds.
        times: (S,) how often each sample counts, for bootstrap; None for once.

    Returns:
        The summary and the curves, see :class:`Scores`.
    """
    config = task.config
    curves = DetectionMetricDataList()
    metrics = MetricsSummary(config)
    for class_id, name in enumerate(task.names):
        chosen = np.flatnonzero(matches.predictions.class_id == class_id)
        true_samples = matches.truth.sample[matches.truth.class_id == class_id]
        positives = len(true_samples)
        if times is not None:
            chosen = np.repeat(chosen, times[matches.predictions.sample[chosen]])
            positives = times[true_samples].sum()
        for threshold in config.dist_ths:
            curve = matches.curves(threshold, chosen, positives)
            curves.set(name, threshold, curve)
            precision = calc_ap(curve, config.min_recall, config.min_precision)
            metrics.add_label_ap(name, threshold, precision)
        for error in TP_METRICS:
            is_defined = error not in task.undefined.get(name, ())
            curve = curves[name, config.dist_th_tp]
            value = calc_tp(curve, config.min_recall, error) if is_defined else np.nan
            metrics.add_label_tp(name, error, value)
    return metrics, curves


def find_matches(predictions: BoxArrays, truth: GroundTruth, task: DetectionTask) -> Matches:
    """Matches predictions with ground-truth boxes of their sample and class, at every distance
    threshold of the task. Predictions outside of the evaluation's scope are dropped."""
    thresholds = task.config.dist_ths
    predictions = by_score(truth.scope.select(predictions))
    # The pairs of the largest threshold include those of all others.
    pairs = close_pairs(predictions, truth.boxes, max(thresholds))
    found = {t: match(pairs, len(truth.boxes), t) for t in thresholds}
    # Thresholds share most of their matches: the errors of each pair are computed once.
    used = np.unique(np.concatenate(list(found.values())))
    match_of = {t: np.full(len(predictions), -1) for t in thresholds}
    for threshold, of in match_of.items():
        of[pairs.prediction[found[threshold]]] = np.searchsorted(used, found[threshold])
    errors = match_errors(
        predictions.select(pairs.prediction[used]),
        truth.boxes.select(pairs.truth[used]),
        pairs.distance[used],
        [task.names.index(name) for name in task.half_turn],
    )
    return Matches(predictions, truth.boxes, match_of, pairs.truth[used], errors)


def match_errors(
    found: BoxArrays, true: BoxArrays, distance: Floats, half_turn: Sequence[int]
) -> Floats:
    """Computes the TP errors of K matches (devkit README, "True Positive errors").

    Args:
        found: K predictions.
        true: their ground-truth boxes.
        distance: (K,) distances of the centres on the ground plane, metres.
        half_turn: ids of the classes whose headings are compared up to half a turn.

    Returns:
        (E, K) errors in the order of ``TP_METRICS``: m, 1 - IoU, rad, m/s, and 0 or 1 for the
        attribute. NaN where the ground-truth box has no velocity or no attribute.
    """
    errors = {
        "trans_err": distance,
        "scale_err": 1 - _scale_iou(true.size, found.size),
        "orient_err": _yaw_difference(true, found, half_turn),
        "vel_err": np.linalg.norm(found.velocity - true.velocity, axis=1),
        # Attribute 0 stands for none.
        "attr_err": np.where(true.attribute == 0, np.nan, true.attribute != found.attribute),
    }
    return np.stack([errors[name] for name in TP_METRICS])


def _scale_iou(one: Floats, other: Floats) -> Floats:
    """Returns (K,) 3D IoU of boxes after alignment of centre and heading, from (K, 3) sizes."""
    shared = np.minimum(one, other).prod(axis=1)
    return shared / (one.prod(axis=1) + other.prod(axis=1) - shared)


def _yaw_difference(true: BoxArrays, found: BoxArrays, half_turn: Sequence[int]) -> Floats:
    """Returns (K,) absolute differences of yaw in [0, period / 2], rad."""
    period = np.where(np.isin(true.class_id, half_turn), np.pi, 2 * np.pi)
    difference = _yaws(true.rotation) - _yaws(found.rotation)
    # Wrapped to -period / 2 .. period / 2 in the same way as by the devkit's angle_diff.
    return np.abs((difference + period / 2) % period - period / 2)


def _yaws(quaternions: Floats) -> Floats:
    """Returns (K,) yaws of the rotated x axis on the ground plane, rad; (K, 4) quaternions of any
    norm, since the norm scales both arguments of the arc tangent alike."""
    w, x, y, z = quaternions.T
    return np.arctan2(2 * (x * y + w * z), w * w + x * x - y * y - z * z)


def _curves(
    scores: Floats, is_match: NDArray[np.bool_], errors: Floats, positives: int
) -> DetectionMetricData:
    """Computes the curves of one class and threshold at R recalls, as ``detection.algo.accumulate``
    of the devkit does.

    Args:
        scores: (N,) scores of the predictions, descending.
        is_match: (N,) true positives among them.
        errors: (E, K) errors of the true positives.
        positives: number of ground-truth boxes.
    """
    if not is_match.any():
        # As in the devkit, also for classes without ground truth: precision 0 and errors of 1.
        return DetectionMetricData.no_predictions()
    true_positives = np.cumsum(is_match).astype(np.float64)
    false_positives = np.cumsum(~is_match).astype(np.float64)
    recall = np.linspace(0, 1, DetectionMetricData.nelem)
    reached = true_positives / positives
    precision = true_positives / (false_positives + true_positives)
    # right=0: recalls that no score reaches have precision and confidence 0.
    confidence = np.interp(recall, reached, scores, right=0)
    # The errors are interpolated over confidence, reversed because np.interp needs ascending x.
    ascending, match_scores = confidence[::-1], scores[is_match][::-1]
    return DetectionMetricData(
        recall=recall,
        precision=np.interp(recall, reached, precision, right=0),
        confidence=confidence,
        **{
            name: np.interp(ascending, match_scores, _cumulative_mean(values)[::-1])[::-1]
            for name, values in zip(TP_METRICS, errors, strict=True)
        },
    )


def _cumulative_mean(values: Floats) -> Floats:
    """Returns the (K,) cumulative mean that ignores NaN, with the devkit's conventions
    (``eval.common.utils.cummean``): 0 before the first number, 1 everywhere if all are NaN."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    count = np.cumsum(known)
    total = np.cumsum(np.where(known, values, 0.0))
    return np.divide(total, count, out=np.zeros_like(total), where=count != 0)


def summarize(metrics: dict[str, Any]) -> dict[str, float]:
    """Returns mAP, NDS, the five mean TP errors and ``AP_<class>`` from the devkit's summary."""
    summary = {"mAP": float(metrics["mean_ap"]), "NDS": float(metrics["nd_score"])}
    summary |= {name: float(metrics["tp_errors"][key]) for key, name in TP_ERROR_NAMES.items()}
    return summary | {f"AP_{name}": float(ap) for name, ap in metrics["mean_dist_aps"].items()}


def format_table(metrics: dict[str, Any]) -> str:
    """Formats AP and TP errors by class as a text table, with means in the last row and NDS below.

    Args:
        metrics: the devkit's summary.
    """
    # Without the "m" of mATE, which stands for the mean over classes.
    head = ["class", "AP", *(name[1:] for name in TP_ERROR_NAMES.values())]
    rows = [
        [name, ap, *(metrics["label_tp_errors"][name][key] for key in TP_ERROR_NAMES)]
        for name, ap in metrics["mean_dist_aps"].items()
    ]
    mean = ["mean", metrics["mean_ap"], *(metrics["tp_errors"][key] for key in TP_ERROR_NAMES)]
    width = max(len(row[0]) for row in rows)
    rule = "-" * (width + 8 * len(head[1:]))
    lines = [
        _line(head, width),
        rule,
        *(_line(row, width) for row in rows),
        rule,
        _line(mean, width),
        f"NDS {metrics['nd_score']:.4f}",
    ]
    return "\n".join(lines)


def _line(cells: list[Any], width: int) -> str:
    """Formats a row: first cell left-aligned, the others right-aligned."""
    return f"{cells[0]:<{width}}" + "".join(f"{_text(cell):>8}" for cell in cells[1:])


def _text(cell: str | float) -> str:
    """Formats a cell; NaN, an error that the class does not have, is a dash."""
    if isinstance(cell, str):
        return cell
    return "-" if math.isnan(cell) else f"{cell:.4f}"
