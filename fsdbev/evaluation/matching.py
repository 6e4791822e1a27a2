"""Predictions matched to true boxes as nuScenes does, for all samples and classes at once.

The rule (nuScenes, detection task, "Matching function"; the paper, section 3.1): predictions in
order of falling score each take the nearest true box of their sample and class that is still free,
if its centre is nearer than the threshold.

Shapes: K pairs of a prediction and a true box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .box_arrays import CLASSES, BoxArrays, Floats, Ints

#: Predictions that are paired at once, which bounds the memory needed.
_CHUNK = 2**15


@dataclass(frozen=True)
class Pairs:
    """K predictions and true boxes that may match, best prediction first and, of one prediction,
    nearest true box first.

    Attributes:
        prediction: (K,) positions, not falling.
        truth: (K,) positions.
        distance: (K,) metres between the centres, seen from above.
    """

    prediction: Ints
    truth: Ints
    distance: Floats


def by_score(boxes: BoxArrays) -> BoxArrays:
    """Falling scores; of equal ones the last comes first, as in the devkit."""
    return boxes.select(np.argsort(boxes.score, kind="stable")[::-1])


def close_pairs(predictions: BoxArrays, truth: BoxArrays, reach: float) -> Pairs:
    """Pairs of one sample and class, all that are nearer than ``reach`` metres and a few more."""
    chunks = [np.zeros((0, 2), np.int64)]
    for prediction, true in equal_pairs(_sample_and_class(predictions), _sample_and_class(truth)):
        offset = np.abs(predictions.center[prediction, :2] - truth.center[true, :2])
        near = (offset < reach).all(axis=1)
        chunks.append(np.stack([prediction[near], true[near]], axis=1))
    prediction, true = np.concatenate(chunks).T
    offset = predictions.center[prediction, :2] - truth.center[true, :2]
    distance = np.linalg.norm(offset, axis=1)
    # Stable: of true boxes at one distance, the first in the sample comes first.
    order = np.lexsort((distance, prediction))
    return Pairs(prediction[order], true[order], distance[order])


def match(pairs: Pairs, num_truth: int, threshold: float) -> Ints:
    """Positions in ``pairs`` of the matches nearer than ``threshold``, best prediction first.

    Predictions that take their pick one after the other are the one stable matching in which every
    true box prefers the better prediction. So all may ask at once (Gale and Shapley, 1962): each
    for the nearest true box that has not refused it; every true box keeps the best that asked, and
    who was refused asks for the next.
    """
    near = np.flatnonzero(pairs.distance < threshold)
    prediction, truth = pairs.prediction[near], pairs.truth[near]
    is_first = np.diff(prediction, prepend=-1) > 0
    is_last = np.append(is_first[1:], True)[: len(near)]
    kept = np.full(num_truth, -1)  # pair that each true box keeps, the lower the better
    asking = np.flatnonzero(is_first)
    while len(asking):
        rivals = kept[truth[asking]]
        ranked = np.unique(np.concatenate([asking, rivals[rivals >= 0]]))[::-1]
        kept[truth[ranked]] = ranked  # of several values for one place the last stays: the best
        refused = ranked[kept[truth[ranked]] != ranked]
        asking = refused[~is_last[refused]] + 1
    return near[np.sort(kept[kept >= 0])]


def equal_pairs(left: Ints, right: Ints) -> Iterator[tuple[Ints, Ints]]:
    """All (i, j) with ``left[i] == right[j]``, in chunks, ordered by i and then j."""
    order = np.argsort(right, kind="stable")
    ordered = right[order]
    begin, end = np.searchsorted(ordered, left), np.searchsorted(ordered, left, side="right")
    for start in range(0, len(left), _CHUNK):
        count = (end - begin)[start : start + _CHUNK]
        one = np.repeat(np.arange(start, start + len(count)), count)
        place = np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count)
        yield one, order[begin[one] + place]


def _sample_and_class(boxes: BoxArrays) -> NDArray[np.int64]:
    return boxes.sample * len(CLASSES) + boxes.class_id
