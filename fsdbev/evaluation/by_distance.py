"""Detection metrics by the distance of the objects from the ego vehicle.

Predictions are matched once, over all distances, by nuScenes' rule. A ground-truth box belongs to
the band of its own distance; a matched prediction to the band of its ground-truth box; an
unmatched prediction to the band of its own distance. Matches across a band's edge are therefore
kept, and the bands' recalls, weighted by their numbers of ground-truth boxes, average to the
overall recall.

Shapes: C classes, B bands, N boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nuscenes.eval.detection.algo import calc_ap

from .box_arrays import BoxArrays, Floats, Ints
from .metrics import Matches
from .truth import DetectionTask

#: Width of a band in metres, up to the largest number of bands; for larger ranges a multiple of it.
_BAND_WIDTH, _MAX_BANDS = 10.0, 10


@dataclass(frozen=True)
class DistanceBands:
    """Metrics of B distance bands.

    Attributes:
        starts: (B,) lower edges, metres. A band ends where the next one starts, the last one at the
            evaluation range of the class.
        num_truth: (C, B) number of ground-truth boxes.
        found: (C, B) number of true positives at any score, at the threshold of the TP errors.
        found_above: (C, B) number of true positives at or above a given score.
        average_precision: (C, B) AP averaged over the distance thresholds; NaN without ground
            truth.
    """

    starts: Floats
    num_truth: Ints
    found: Ints
    found_above: Ints
    average_precision: Floats


def measure_bands(
    matches: Matches, ego: Floats, task: DetectionTask, score: float
) -> DistanceBands:
    """Computes the metrics of every distance band.

    Args:
        matches: predictions matched with the ground truth.
        ego: (S, 2) positions of the ego vehicle in the global frame by sample, metres.
        task: classes, ranges and thresholds.
        score: lowest score of the predictions in ``found_above``.
    """
    config, starts = task.config, band_starts(task.ranges.max())
    shape = (len(task.names), len(starts))

    def count(class_and_band: Ints) -> Ints:
        return np.bincount(class_and_band, minlength=shape[0] * shape[1]).reshape(shape)

    predictions = matches.predictions
    own_band, truth_band = (_bands(boxes, ego, starts) for boxes in (predictions, matches.truth))
    # Flat index of (class, band), so that one bincount fills the whole table.
    class_and_band = matches.truth.class_id * shape[1] + truth_band
    match_of = matches.match_of[config.dist_th_tp]
    is_match = match_of >= 0
    found = class_and_band[matches.true_box[match_of[is_match]]]
    num_truth = count(class_and_band)
    precisions = np.full((len(config.dist_ths), *shape), np.nan)
    for t, threshold in enumerate(config.dist_ths):
        match_at = matches.match_of[threshold]
        band = own_band.copy()  # a copy, as each threshold has other matches
        band[match_at >= 0] = truth_band[matches.true_box[match_at[match_at >= 0]]]
        # Other bands stay NaN: recall is undefined without ground truth.
        for c, b in np.argwhere(num_truth):
            chosen = np.flatnonzero((predictions.class_id == c) & (band == b))
            curves = matches.curves(threshold, chosen, num_truth[c, b])
            precisions[t, c, b] = calc_ap(curves, config.min_recall, config.min_precision)
    return DistanceBands(
        starts=starts,
        num_truth=num_truth,
        found=count(found),
        found_above=count(found[predictions.score[is_match] >= score]),
        average_precision=precisions.mean(axis=0),
    )


def band_starts(reach: float) -> Floats:
    """Returns the (B,) lower edges of bands up to ``reach`` metres."""
    width = _BAND_WIDTH * np.ceil(reach / (_BAND_WIDTH * _MAX_BANDS))
    return np.arange(0.0, reach, width)


def _bands(boxes: BoxArrays, ego: Floats, starts: Floats) -> Ints:
    """Returns the (N,) band of each box's distance from the ego vehicle on the ground plane."""
    distance = np.linalg.norm(boxes.center[:, :2] - ego[boxes.sample], axis=1)
    # A distance that equals the start of a band belongs to that band.
    return np.searchsorted(starts, distance, side="right") - 1
