"""Comparison of the detections of an exported graph with those of its model.

Rounding differs between runtimes. It can swap two detections with equal scores, or move an overlap
across the threshold of NMS. Detections are therefore compared as sets: each detection needs a
counterpart in the other set, with a small number of exceptions.

Shapes: R detections of one set, Q of the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from fsdbev.modeling.center_head.decode import Candidates

#: Largest difference between the scores of counterparts, and between features as a fraction of the
#: largest feature.
TOLERANCE = 1e-3
#: Box values (metres, radians, m/s) may differ by this factor times the tolerance; for values above
#: 1 the difference is relative.
BOX_FACTOR = 10.0
#: Largest fraction of detections without a counterpart.
MAX_UNMATCHED = 0.01

_YAW = 6  # column of the heading in a box


@dataclass(frozen=True)
class Differences:
    """Differences between the outputs of a graph and those of the model.

    Attributes:
        num_detections: number of detections of graph and model together.
        num_unmatched: number of detections without a counterpart within the tolerance.
        score: largest difference between scores of counterparts.
        box: largest difference between box values of counterparts, relative for values above 1.
        features: largest difference between the features that a stream keeps, relative to the
            largest feature; 0 without a stream.
    """

    num_detections: int
    num_unmatched: int
    score: float
    box: float
    features: float = 0.0

    def check(self, tolerance: float) -> None:
        """Checks that the graph agrees with the model.

        Raises:
            ValueError: there are no detections, too many detections have no counterpart, or the
                features differ by more than the tolerance.
        """
        if self.num_detections == 0:
            raise ValueError(
                "the model detects nothing in these samples: there is nothing to compare"
            )
        if self.num_unmatched > MAX_UNMATCHED * self.num_detections:
            raise ValueError(
                f"{self.num_unmatched} of {self.num_detections} detections of the model and of the "
                f"exported graph have no counterpart within {tolerance:g} of their scores and "
                f"{BOX_FACTOR * tolerance:g} of their boxes; {MAX_UNMATCHED:.0%} are allowed"
            )
        # Negated, so that NaN fails too.
        if not self.features <= tolerance:
            raise ValueError(
                f"features of the exported graph differ by {self.features:g} of the largest "
                f"feature; {tolerance:g} is allowed"
            )

    def as_dict(self, tolerance: float) -> dict[str, int | float | None]:
        """Returns the values and the tolerance for JSON; values that are not finite become None."""
        values = asdict(self) | {"tolerance": tolerance}
        return {k: v if math.isfinite(v) else None for k, v in values.items()}


def compare_detections(
    found: Sequence[Candidates],
    expected: Sequence[Candidates],
    tolerance: float,
    *,
    features: float = 0.0,
) -> Differences:
    """Matches the detections of a graph with those of the model, sample by sample.

    Args:
        found: detections of each sample by the graph.
        expected: detections of each sample by the model.
        tolerance: largest difference between counterparts, see :data:`TOLERANCE`.
        features: value for :attr:`Differences.features`.
    """
    num_detections = num_unmatched = 0
    score = box = 0.0
    for of_graph, of_model in zip(found, expected, strict=True):
        score_difference, box_difference = _differences(of_graph, of_model)
        # NaN becomes infinite, so that a detection with NaN matches nothing.
        distance = torch.maximum(score_difference, box_difference / BOX_FACTOR).nan_to_num(math.inf)
        num_detections += sum(distance.shape)
        # Each detection looks for its nearest counterpart in the other set; several may share one.
        for axis, other in ((1, 0), (0, 1)):
            if distance.shape[axis] == 0:
                num_unmatched += distance.shape[other]
                continue
            nearest, index = distance.min(dim=axis, keepdim=True)
            matched = nearest <= tolerance
            num_unmatched += int((~matched).sum())
            if matched.any():
                score = max(score, score_difference.gather(axis, index)[matched].max().item())
                box = max(box, box_difference.gather(axis, index)[matched].max().item())
    return Differences(num_detections, num_unmatched, score, box, features)


def _differences(a: Candidates, b: Candidates) -> tuple[Tensor, Tensor]:
    """Computes (R, Q) float64 differences of scores, infinite between classes, and of boxes."""
    difference = (a.boxes[:, None].double() - b.boxes[None].double()).abs()
    # Headings are equal modulo a full turn.
    yaw = difference[..., _YAW]
    difference[..., _YAW] = torch.minimum(yaw, 2 * math.pi - yaw)
    box = (difference / a.boxes[:, None].abs().clamp(min=1.0)).amax(dim=-1)
    score = (a.scores[:, None].double() - b.scores[None].double()).abs()
    same_class = a.classes[:, None] == b.classes[None]
    return score.masked_fill(~same_class, math.inf), box


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Computes the largest difference relative to the largest expected value; NaN if any is NaN."""
    difference = (found.double() - expected.double()).abs().max()
    # The bound avoids 0 / 0 for features that are all 0.
    return (difference / expected.double().abs().max().clamp(min=1e-30)).item()
