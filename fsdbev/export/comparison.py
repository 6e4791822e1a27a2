"""Whether an exported graph finds what the model finds.

Rounding differs between runtimes, and a little rounding decides which of two equal scores comes
first, or whether an overlap is over the threshold of NMS. So detections are held against each other
as sets: every one must have its counterpart in the other set, but for a few.

Shapes: R detections of one set, Q of the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from fsdbev.modeling.center_head.decode import Candidates

#: Counterparts may differ by this in their scores, and features by this share of the largest.
TOLERANCE = 1e-3
#: Values of boxes may differ by so many times the tolerance: metres, radians, metres a second; of
#: values beyond 1, by that share of them.
BOX_FACTOR = 10.0
#: Share of detections that may lack a counterpart.
MAX_UNMATCHED = 0.01

_YAW = 6


@dataclass(frozen=True)
class Differences:
    """Between what a graph gives and what the model gives.

    Attributes:
        num_detections: of both together.
        num_unmatched: of those, how many have no counterpart within the tolerance.
        score: largest difference of scores of counterparts.
        box: largest difference of their boxes' values; of values beyond 1, in proportion to them.
        features: largest difference of the features that a stream keeps, in proportion to the
            largest of them; 0 without a stream.
    """

    num_detections: int
    num_unmatched: int
    score: float
    box: float
    features: float = 0.0

    def check(self, tolerance: float) -> None:
        """ValueError unless the graph does what the model does."""
        if self.num_detections == 0:
            raise ValueError(
                "the model finds nothing in these samples: there is nothing to compare"
            )
        if self.num_unmatched > MAX_UNMATCHED * self.num_detections:
            raise ValueError(
                f"{self.num_unmatched} of {self.num_detections} detections of the model and of the "
                f"exported graph have no counterpart within {tolerance:g} of their scores and "
                f"{BOX_FACTOR * tolerance:g} of their boxes; {MAX_UNMATCHED:.0%} may"
            )
        if not self.features <= tolerance:
            raise ValueError(
                f"features of the exported graph differ by {self.features:g} of the largest, "
                f"{tolerance:g} may be"
            )

    def as_dict(self, tolerance: float) -> dict[str, int | float | None]:
        """With the tolerance, for JSON: None is what is not finite."""
        values = asdict(self) | {"tolerance": tolerance}
        return {k: v if math.isfinite(v) else None for k, v in values.items()}


def compare_detections(
    found: Sequence[Candidates],
    expected: Sequence[Candidates],
    tolerance: float,
    *,
    features: float = 0.0,
) -> Differences:
    """Detections of each sample by the graph and by the model; ``features`` is passed on."""
    num_detections = num_unmatched = 0
    score = box = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        score_difference, box_difference = _differences(ours, theirs)
        distance = torch.maximum(score_difference, box_difference / BOX_FACTOR).nan_to_num(math.inf)
        num_detections += sum(distance.shape)
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
    """(R, Q) differences of scores and of boxes, float64; infinite between classes."""
    difference = (a.boxes[:, None].double() - b.boxes[None].double()).abs()
    yaw = difference[..., _YAW]
    difference[..., _YAW] = torch.minimum(yaw, 2 * math.pi - yaw)
    box = (difference / a.boxes[:, None].abs().clamp(min=1.0)).amax(dim=-1)
    score = (a.scores[:, None].double() - b.scores[None].double()).abs()
    same_class = a.classes[:, None] == b.classes[None]
    return score.masked_fill(~same_class, math.inf), box


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Of two tensors, in proportion to the largest value expected; NaN if one has a NaN."""
    difference = (found.double() - expected.double()).abs().max()
    return (difference / expected.double().abs().max().clamp(min=1e-30)).item()
