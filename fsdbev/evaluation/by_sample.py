"""Detection quality of each sample: true positives, missed objects and false positives.

Shapes: S samples, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .box_arrays import BoxArrays, Floats, Ints
from .metrics import Matches


@dataclass(frozen=True)
class SampleCounts:
    """Numbers of boxes by sample and class, with predictions above a score.

    Attributes:
        found: (S, C) matched ground-truth boxes (true positives).
        missed: (S, C) unmatched ground-truth boxes (false negatives).
        false: (S, C) unmatched predictions (false positives).
    """

    found: Ints
    missed: Ints
    false: Ints

    @property
    def mistakes(self) -> Ints:
        """(S,) number of false negatives and false positives."""
        return (self.missed + self.false).sum(axis=1)

    @property
    def f1(self) -> Floats:
        """(S,) F1 = 2 TP / (2 TP + FN + FP) over all classes; NaN for a sample that has neither
        ground truth nor predictions."""
        found = 2.0 * self.found.sum(axis=1)
        total = found + self.mistakes
        return np.divide(found, total, out=np.full(len(total), np.nan), where=total > 0)

    def best(self, count: int, scenes: Sequence[str]) -> list[int]:
        """Returns the samples of highest F1; ties go to the sample with more true positives.

        Args:
            count: number of samples.
            scenes: (S,) scene of each sample. A second sample of one scene is chosen only when
                there are fewer scenes than ``count``.

        Raises:
            ValueError: ``count`` is negative.
        """
        # The last key of lexsort is the primary one.
        order = np.lexsort((-self.found.sum(axis=1), -self.f1))
        return _choose_across_scenes(order, self.f1, count, scenes)

    def worst(self, count: int, scenes: Sequence[str]) -> list[int]:
        """Returns the samples of lowest F1; ties go to the sample with more mistakes. Samples
        without mistakes are left out.

        Args:
            count: number of samples.
            scenes: as for :meth:`best`.

        Raises:
            ValueError: ``count`` is negative.
        """
        order = np.lexsort((-self.mistakes, self.f1))
        return _choose_across_scenes(order[self.mistakes[order] > 0], self.f1, count, scenes)


def count_by_sample(
    matches: Matches, shape: tuple[int, int], threshold: float, score: float
) -> SampleCounts:
    """Counts true positives, false negatives and false positives of each sample.

    Args:
        matches: predictions matched with the ground truth.
        shape: (S, C).
        threshold: distance threshold of the matches, metres.
        score: lowest score of the predictions that are counted.
    """
    kept = np.flatnonzero(matches.predictions.score >= score)
    match_of = matches.match_of[threshold][kept]
    predictions = matches.predictions.select(kept)
    matched = matches.true_box[match_of[match_of >= 0]]
    found = _count_boxes(matches.truth.select(matched), shape)
    return SampleCounts(
        found=found,
        missed=_count_boxes(matches.truth, shape) - found,
        false=_count_boxes(predictions.select(match_of < 0), shape),
    )


def _count_boxes(boxes: BoxArrays, shape: tuple[int, int]) -> Ints:
    """Returns the (S, C) number of boxes."""
    sample_and_class = boxes.sample * shape[1] + boxes.class_id
    return np.bincount(sample_and_class, minlength=shape[0] * shape[1]).reshape(shape)


def _choose_across_scenes(order: Ints, f1: Floats, count: int, scenes: Sequence[str]) -> list[int]:
    """Returns the first ``count`` samples of ``order`` that have an F1, at most one a scene while
    there are scenes enough.

    Raises:
        ValueError: ``count`` is negative.
    """
    if count < 0:
        raise ValueError(f"the number of best and worst samples must be at least 0, got {count}")
    order = [int(sample) for sample in order if not np.isnan(f1[sample])]
    # Samples of one scene show nearly the same images, so each scene first contributes one.
    first_of_scene: dict[str, int] = {}
    for sample in order:
        first_of_scene.setdefault(scenes[sample], sample)
    leaders = list(first_of_scene.values())[:count]
    others = [sample for sample in order if sample not in set(leaders)]
    chosen = {*leaders, *others[: count - len(leaders)]}
    return [sample for sample in order if sample in chosen]
