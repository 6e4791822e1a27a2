"""Results files of other programs in nuScenes' format, as nuScenes' devkit accepts them.

The devkit accepts boxes that :func:`.submission.check_boxes`, which is for the predictions of this
project, refuses. Here they are accepted, scored as the devkit does, counted and reported.
"""

from __future__ import annotations

import math
import os
import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fsdbev.structures import OFFICIAL_SPLITS

from .box_arrays import EncodedSubmission
from .nuscenes_truth import TableTruth
from .submission import (
    MAX_BOXES_PER_SAMPLE,
    Violation,
    allowed_attributes,
    are_finite_numbers,
    format_violations,
    parse_submission,
    sample_token_problems,
)

#: Number of values that a finding shows, and of findings that an error message shows.
_MAX_VALUES, _MAX_LINES = 3, 20
#: Rotations of larger norm, or smaller than its inverse, have no direction by the devkit.
_MAX_NORM = 1e6


@dataclass(frozen=True)
class ResultsFile:
    """Content of a results file.

    Attributes:
        boxes: submission boxes by sample token, in the devkit's order, which decides between equal
            scores: that of the file for an official split, else that of the tables.
        meta: the file's ``meta``, such as the modalities that were used.
        notices: sentences about the accepted deviations from nuScenes' format.
    """

    boxes: EncodedSubmission
    meta: dict[str, Any]
    notices: Sequence[str]


def read_results(path: str | os.PathLike, source: TableTruth) -> ResultsFile:
    """Reads and checks the results file of any program.

    Accepted with a notice are: an ``attribute_name`` that is empty or of another class, a velocity
    of NaN, a rotation of any norm, boxes with ``num_pts`` 0, and, for a split of ``splits.json``,
    samples of other splits.

    Args:
        path: path of the file.
        source: the samples that the file must have, and the classes of its boxes.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not JSON or violates nuScenes' format; the message lists the kinds
            of violations, each with number and examples.
    """
    try:
        content = parse_submission(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a results file of nuScenes: {error}") from error
    results, scenes, reader = content["results"], source.scenes, _BoxReader(source)
    is_official, boxes = source.split in OFFICIAL_SPLITS, EncodedSubmission()
    for token in results if is_official else scenes:
        if token in results and token in scenes:
            boxes.add(token, reader.read(token, results[token]))
    notices, foreign = reader.accepted.lines(), len(results) - len(boxes)
    if foreign and not is_official:
        notices.append(f"{foreign} samples are not in {source.name} and do not count")
    submitted = results if is_official else boxes
    problems = sample_token_problems(submitted, scenes, source.name) + reader.refused.lines()
    if not isinstance(content.get("meta"), dict):
        problems.append("it has no dict under 'meta'; add the modalities that were used")
    if problems:
        hidden = len(problems) - _MAX_LINES
        more = [f"and {hidden} further kinds of problems"] if hidden > 0 else []
        lines = [f"{path} cannot be scored:", *problems[:_MAX_LINES], *more]
        raise ValueError("\n- ".join(lines))
    return ResultsFile(boxes, content["meta"], notices)


class _BoxReader:
    """Checks the boxes of samples.

    Args:
        source: the samples and their classes.

    Attributes:
        refused: violations of nuScenes' format that the devkit refuses, or that make its metrics
            meaningless.
        accepted: the others.
    """

    def __init__(self, source: TableTruth) -> None:
        self._attributes = allowed_attributes(source.classes)
        self._attribute_names = source.task.attributes
        self.refused, self.accepted = _Findings(), _Findings()

    def read(self, sample_token: str, boxes: Any) -> list[dict[str, Any]]:
        """Returns the boxes of a sample that the devkit evaluates."""
        place = f"sample {sample_token}"
        if not isinstance(boxes, list):
            self.refused.add("samples", "there must be a list of boxes", reprlib.repr(boxes), place)
            return []
        if len(boxes) > MAX_BOXES_PER_SAMPLE:
            rule = f"at most {MAX_BOXES_PER_SAMPLE} boxes are allowed (keep those of highest score)"
            self.refused.add("samples", rule, f"{len(boxes)} boxes", place)
        checked = (
            self._checked(sample_token, box, f"{place}, box {number}")
            for number, box in enumerate(boxes)
        )
        return [box for box in checked if box is not None]

    def _checked(self, sample_token: str, box: Any, place: str) -> dict[str, Any] | None:
        """Checks a box and returns it; None for a box that the devkit leaves out."""
        for violation in format_violations(sample_token, box, self._attributes):
            notice = self._notice(violation, box)
            if notice is None:
                self.refused.add("boxes", violation.rule, violation.value, place)
            else:
                self.accepted.add("boxes", *notice, place)
        if not isinstance(box, dict) or "num_pts" not in box:
            return box
        points = box["num_pts"]
        if type(points) is not int:
            self.refused.add("boxes", "num_pts must be an integer", reprlib.repr(points), place)
        elif points == 0:
            self.accepted.add("boxes", "num_pts is 0; they do not count", "", place)
            return None
        return box

    def _notice(self, violation: Violation, box: Any) -> tuple[str, str] | None:
        """Returns what the devkit does with a violation, and its value; None if it is refused."""
        key = violation.key
        if key == "attribute_name" and box[key] in self._attribute_names:
            rule = "attribute_name is not one of the class and counts as wrong"
            return rule, f"{box['detection_name']} with {violation.value}"
        if key == "norm" and 1 / _MAX_NORM < math.hypot(*box["rotation"]) < _MAX_NORM:
            return "rotation is not a unit quaternion; its norm does not matter", ""
        if key == "velocity" and _is_unknown(box[key]):
            return "velocity is NaN; their matches do not count in the velocity error", ""
        return None


class _Findings:
    """Numbers, values and first places of findings about samples and boxes."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], Counter[str]] = {}
        self._first: dict[tuple[str, str], str] = {}

    def add(self, noun: str, rule: str, value: str, place: str) -> None:
        """Counts a finding.

        Args:
            noun: "samples" or "boxes".
            rule: what is wrong.
            value: text of the value; "" for none.
            place: the sample and the box.
        """
        self._values.setdefault((noun, rule), Counter())[value] += 1
        self._first.setdefault((noun, rule), place)

    def lines(self) -> list[str]:
        """Returns a sentence for each kind of finding."""
        return [
            f"{values.total()} {noun}: {rule}{_examples(values)}; first: {self._first[noun, rule]}"
            for (noun, rule), values in self._values.items()
        ]


def _examples(values: Counter[str]) -> str:
    """Formats the most frequent values, for example ``: 'tram' (12), 'pole' (3)``."""
    shown = [f"{value} ({count})" for value, count in values.most_common(_MAX_VALUES) if value]
    more = ", ..." if len(values) > _MAX_VALUES else ""
    return f": {', '.join(shown)}{more}" if shown else ""


def _is_unknown(velocity: Any) -> bool:
    """Whether a velocity consists of two numbers that are finite or NaN."""
    if not isinstance(velocity, list) or len(velocity) != 2:
        return False
    return are_finite_numbers(
        [0.0 if isinstance(value, float) and math.isnan(value) else value for value in velocity]
    )
