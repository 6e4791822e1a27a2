"""How well each sample went: what was found in it, missed and raised falsely.

Shapes: S samples, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .box_arrays import CLASSES, BoxArrays, Floats, Ints
from .metrics import Matches


@dataclass(frozen=True)
class SampleCounts:
    """Boxes by sample and class (as in ``CLASSES``), with predictions that score enough.

    Attributes:
        found: (S, C) true boxes that a prediction matched.
        missed: (S, C) the other true boxes.
        false: (S, C) predictions without a true box.
    """

    found: Ints
    missed: Ints
    false: Ints

    @property
    def mistakes(self) -> Ints:
        """(S,) missed and false boxes together."""
        return (self.missed + self.false).sum(axis=1)

    @property
    def f1(self) -> Floats:
        """(S,) 2 found / (2 found + missed + false) over all classes: 1 is without fault, 0 found
        nothing; NaN where there is neither a true box nor a prediction."""
        found = 2.0 * self.found.sum(axis=1)
        total = found + self.mistakes
        return np.divide(found, total, out=np.full(len(total), np.nan), where=total > 0)

    def best(self, count: int, scenes: Sequence[str]) -> list[int]:
        """The samples of highest F1, of equal ones those with more objects found."""
        order = np.lexsort((-self.found.sum(axis=1), -self.f1))
        return _choose(order, self.f1, count, scenes)

    def worst(self, count: int, scenes: Sequence[str]) -> list[int]:
        """The samples of lowest F1, of equal ones those with more mistakes; none without any."""
        order = np.lexsort((-self.mistakes, self.f1))
        return _choose(order[self.mistakes[order] > 0], self.f1, count, scenes)


def count_by_sample(
    matches: Matches, num_samples: int, threshold: float, score: float
) -> SampleCounts:
    """Counts at a distance threshold of ``matches``, with predictions that score at least
    ``score``."""
    kept = np.flatnonzero(matches.predictions.score >= score)
    match_of = matches.match_of[threshold][kept]
    predictions = matches.predictions.select(kept)
    found = _count(matches.truth.select(matches.true_box[match_of[match_of >= 0]]), num_samples)
    return SampleCounts(
        found=found,
        missed=_count(matches.truth, num_samples) - found,
        false=_count(predictions.select(match_of < 0), num_samples),
    )


def _count(boxes: BoxArrays, num_samples: int) -> Ints:
    """(S, C) number of boxes."""
    shape = (num_samples, len(CLASSES))
    places = boxes.sample * shape[1] + boxes.class_id
    return np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)


def _choose(order: Ints, f1: Floats, count: int, scenes: Sequence[str]) -> list[int]:
    """The first of ``order`` that have an F1: one a scene, whose samples look alike; more of them
    only where there are not enough scenes.

    Raises:
        ValueError: ``count`` is negative.
    """
    if count < 0:
        raise ValueError(f"the number of best and worst samples starts at 0, got {count}")
    order = [int(sample) for sample in order if not np.isnan(f1[sample])]
    first: dict[str, int] = {}
    for sample in order:
        first.setdefault(scenes[sample], sample)
    leaders = list(first.values())[:count]
    others = [sample for sample in order if sample not in set(leaders)]
    chosen = {*leaders, *others[: count - len(leaders)]}
    return [sample for sample in order if sample in chosen]
