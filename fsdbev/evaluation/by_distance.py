"""Detection metrics by how far from the ego vehicle the objects are.

Matching is the official one, over all distances at once. A true box counts in the band of its own
distance; a prediction in that of the true box it found, or of its own distance if it found none.
So no match is lost at a band's edge, and the bands' recalls, weighted by their numbers of true
boxes, make the recall over all.

Shapes: C classes, those of ``CLASSES``, B bands, N boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nuscenes.eval.detection.algo import calc_ap
from nuscenes.eval.detection.data_classes import DetectionConfig

from .box_arrays import CLASSES, BoxArrays, Floats, Ints
from .metrics import Matches

#: Where the bands begin, metres; the last one has no end but the range that evaluation has.
BAND_STARTS = (0.0, 10.0, 20.0, 30.0, 40.0)


@dataclass(frozen=True)
class DistanceBands:
    """Metrics of the B bands that start at ``BAND_STARTS``.

    Attributes:
        num_truth: (C, B) true boxes.
        found: (C, B) how many of them predictions of any score found, at the errors' threshold.
        found_above: (C, B) the same by predictions that score at least the given score.
        average_precision: (C, B) mean over the distance thresholds; NaN without true boxes.
    """

    num_truth: Ints
    found: Ints
    found_above: Ints
    average_precision: Floats


def measure_bands(
    matches: Matches, ego: Floats, config: DetectionConfig, score: float
) -> DistanceBands:
    """Metrics by distance.

    Args:
        ego: (samples, 2) positions of the ego vehicle in the global frame, metres.
        score: what ``found_above`` counts from.
    """
    shape = (len(CLASSES), len(BAND_STARTS))

    def count(places: Ints) -> Ints:
        return np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)

    predictions = matches.predictions
    own_band, true_band = (_bands(boxes, ego) for boxes in (predictions, matches.truth))
    true_place = matches.truth.class_id * shape[1] + true_band
    match_of = matches.match_of[config.dist_th_tp]
    is_match = match_of >= 0
    found_place = true_place[matches.true_box[match_of[is_match]]]
    num_truth = count(true_place)
    precisions = np.full((len(config.dist_ths), *shape), np.nan)
    for t, threshold in enumerate(config.dist_ths):
        match_at = matches.match_of[threshold]
        band = own_band.copy()
        band[match_at >= 0] = true_band[matches.true_box[match_at[match_at >= 0]]]
        for c, b in np.argwhere(num_truth):
            chosen = np.flatnonzero((predictions.class_id == c) & (band == b))
            curves = matches.curves(threshold, chosen, num_truth[c, b])
            precisions[t, c, b] = calc_ap(curves, config.min_recall, config.min_precision)
    return DistanceBands(
        num_truth=num_truth,
        found=count(found_place),
        found_above=count(found_place[predictions.score[is_match] >= score]),
        average_precision=precisions.mean(axis=0),
    )


def _bands(boxes: BoxArrays, ego: Floats) -> Ints:
    """(N,) number of the band of each box's distance from the ego vehicle, seen from above."""
    distance = np.linalg.norm(boxes.center[:, :2] - ego[boxes.sample], axis=1)
    return np.searchsorted(BAND_STARTS, distance, side="right") - 1
