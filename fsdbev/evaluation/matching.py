"""nuScenes' matching of predictions with ground-truth boxes, for all samples and classes at once.

The rule (nuScenes, arXiv:1903.11027, section 3.1; the devkit's ``detection.algo.accumulate``):
predictions are visited by descending score; each matches the nearest unmatched ground-truth box of
its sample and class if the distance of their centres on the ground plane is below a threshold.

Shapes: K pairs of a prediction and a ground-truth box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .box_arrays import BoxArrays, Floats, Ints

#: Number of predictions that are paired at once; bounds the memory of the candidate pairs.
_CHUNK = 2**15


@dataclass(frozen=True)
class Pairs:
    """K candidate matches, sorted by prediction (best first) and then by distance (nearest first).

    Attributes:
        prediction: (K,) indices of predictions, ascending.
        truth: (K,) indices of ground-truth boxes.
        distance: (K,) distances of the centres on the ground plane, metres.
    """

    prediction: Ints
    truth: Ints
    distance: Floats


def by_score(boxes: BoxArrays) -> BoxArrays:
    """Sorts boxes by descending score; equal scores in reversed order, as the devkit does."""
    return boxes.select(np.argsort(boxes.score, kind="stable")[::-1])


def close_pairs(predictions: BoxArrays, truth: BoxArrays, reach: float) -> Pairs:
    """Finds the pairs of equal sample and class within ``reach``.

    Args:
        predictions: sorted by :func:`by_score`.
        truth: ground-truth boxes.
        reach: half the side of a square around the prediction, metres. All pairs with a distance
            below ``reach`` are included, and those of the square's corners as well.
    """
    chunks = [np.zeros((0, 2), np.int64)]
    for prediction, true in equal_pairs(*_samples_and_classes(predictions, truth)):
        offset = np.abs(predictions.center[prediction, :2] - truth.center[true, :2])
        near = (offset < reach).all(axis=1)
        chunks.append(np.stack([prediction[near], true[near]], axis=1))
    prediction, true = np.concatenate(chunks).T
    offset = predictions.center[prediction, :2] - truth.center[true, :2]
    distance = np.linalg.norm(offset, axis=1)
    # lexsort is stable: among ground-truth boxes at equal distance the first one of the sample
    # stays first, which is the one that the devkit's strict comparison picks.
    order = np.lexsort((distance, prediction))
    return Pairs(prediction[order], true[order], distance[order])


def match(pairs: Pairs, num_truth: int, threshold: float) -> Ints:
    """Matches predictions with ground-truth boxes.

    The devkit's greedy matching is the unique stable matching in which each prediction prefers the
    nearest ground-truth box and each ground-truth box the prediction of highest score. Deferred
    acceptance (Gale and Shapley, 1962) finds it with array operations: in each round every
    unmatched prediction proposes to its nearest box that has not rejected it, and every box keeps
    the best proposal and rejects the others.

    Args:
        pairs: candidates of :func:`close_pairs`.
        num_truth: number of ground-truth boxes.
        threshold: matches are nearer than this, metres.

    Returns:
        Indices of the matches in ``pairs``, ascending (best prediction first).
    """
    near = np.flatnonzero(pairs.distance < threshold)
    prediction, truth = pairs.prediction[near], pairs.truth[near]
    is_first = np.diff(prediction, prepend=-1) > 0
    # The slice keeps the mask empty if there are no pairs.
    is_last = np.append(is_first[1:], True)[: len(near)]
    # Pair that each ground-truth box keeps. Pairs are sorted, so a lower index is a better one.
    kept = np.full(num_truth, -1)
    proposing = np.flatnonzero(is_first)
    while len(proposing):
        rivals = kept[truth[proposing]]
        ranked = np.unique(np.concatenate([proposing, rivals[rivals >= 0]]))[::-1]
        # With repeated indices NumPy keeps the last assignment, here the best proposal.
        kept[truth[ranked]] = ranked
        rejected = ranked[kept[truth[ranked]] != ranked]
        proposing = rejected[~is_last[rejected]] + 1
    return near[np.sort(kept[kept >= 0])]


def equal_pairs(left: Ints, right: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yields all (i, j) with ``left[i] == right[j]`` in chunks, sorted by i and then j."""
    order = np.argsort(right, kind="stable")
    ordered = right[order]
    begin, end = np.searchsorted(ordered, left), np.searchsorted(ordered, left, side="right")
    for start in range(0, len(left), _CHUNK):
        count = (end - begin)[start : start + _CHUNK]
        one = np.repeat(np.arange(start, start + len(count)), count)
        # 0, 1, ... within each run of equal i: the global count minus the count at the run's start.
        place = np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count)
        yield one, order[begin[one] + place]


def _samples_and_classes(*boxes: BoxArrays) -> list[NDArray[np.int64]]:
    """Returns the keys of several sets of boxes, one key for each pair of sample and class."""
    num_classes = 1 + max(part.class_id.max(initial=0) for part in boxes)
    return [part.sample * num_classes + part.class_id for part in boxes]
