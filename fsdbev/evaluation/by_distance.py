"""Detection metrics by how far from the ego vehicle the objects are.

Matching is the official one, over all distances at once. A true box counts in the band of its own
distance; a prediction in that of the true box it found, or of its own distance if it found none.
So no match is lost at a band's edge, and the bands' recalls, weighted by their numbers of true
boxes, make the recall over all.

Letters: C classes, those of ``CLASSES``, B bands, N boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nuscenes.eval.detection.algo import calc_ap
from nuscenes.eval.detection.data_classes import DetectionConfig

from .box_arrays import CLASSES, BoxArrays, Floats, Ints
from .fast_metrics import Matches
from .matching import lengths

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
    true_band = _bands(_distances(matches.truth, ego))
    own_band = _bands(_distances(matches.predictions, ego))
    places = matches.truth.class_id * shape[1] + true_band
    num_truth = np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)
    found, found_above = (np.zeros(shape, np.int64) for _ in range(2))
    precisions = np.full((len(config.dist_ths), *shape), np.nan)
    for t, threshold in enumerate(config.dist_ths):
        match_of = matches.match_of[threshold]
        is_match = match_of >= 0
        band = own_band.copy()
        band[is_match] = true_band[matches.true_box[match_of[is_match]]]
        for c in range(shape[0]):
            of_class = matches.predictions.class_id == c
            for b in np.flatnonzero(num_truth[c]):
                chosen = np.flatnonzero(of_class & (band == b))
                curves = matches.curves(threshold, chosen, num_truth[c, b])
                precisions[t, c, b] = calc_ap(curves, config.min_recall, config.min_precision)
                if threshold == config.dist_th_tp:
                    hit = is_match[chosen]
                    found[c, b] = hit.sum()
                    found_above[c, b] = (hit & (matches.predictions.score[chosen] >= score)).sum()
    return DistanceBands(num_truth, found, found_above, precisions.mean(axis=0))


def _distances(boxes: BoxArrays, ego: Floats) -> Floats:
    """(N,) metres from the ego vehicle, seen from above."""
    return lengths(boxes.center[:, :2] - ego[boxes.sample])


def _bands(distances: Floats) -> Ints:
    """(N,) number of the band of each distance."""
    return np.searchsorted(BAND_STARTS, distances, side="right") - 1
