"""A split's submission, checked, written and scored.

The devkit's tables take gigabytes in small pieces for the full set: the evaluator leaves this to a
process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import get_scenes_of_split

from .box_arrays import arrays_of_submission
from .encoded import EncodedSubmission
from .error_analysis import Analysis, analyse
from .metrics import score
from .submission import META, check_sample_tokens, write_json, write_submission
from .truth import read_truth

DEVKIT_CONFIG = "detection_cvpr_2019"
#: What the devkit's summary holds beside numbers that say how good the detections are.
_NO_METRICS = ("meta", "cfg", "eval_time")


@dataclass(frozen=True)
class ScoredDetections:
    """What an evaluation scored, and a closer look at it.

    Attributes:
        version, split: of the data set.
        sample_tokens: of its samples, S.
        scene_names: (S,) the scene of each.
        summary: the metrics, as in ``metrics_summary.json``.
        official: the devkit's own summary; None where it did not run.
        analysis: the closer look; its samples are these.
        results: submission boxes by sample token, decoded when asked for; empty where
            ``write_and_score`` returns this to their owner.
    """

    version: str
    split: str
    sample_tokens: Sequence[str]
    scene_names: Sequence[str]
    summary: dict[str, Any]
    official: dict[str, Any] | None
    analysis: Analysis
    results: EncodedSubmission = field(default_factory=EncodedSubmission)


def write_and_score(
    results: EncodedSubmission,
    *,
    dataroot: str,
    version: str,
    split: str,
    submission: Path,
    summary: Path,
    scratch: str,
    official: bool,
) -> ScoredDetections | None:
    """Checks, writes and scores the predictions of a split.

    Args:
        dataroot, version, split: as of :class:`.nuscenes.NuScenesEvaluator`.
        submission, summary: files to write.
        scratch: a folder for what the devkit leaves.
        official: let the devkit score the submission too, if there is anything to match.

    Returns:
        None where there are no annotations to score against.

    Raises:
        ValueError: samples of the split are missing, or others are there.
    """
    nusc = NuScenes(version=version, dataroot=dataroot, verbose=False)
    scene_of = _scenes_of_samples(nusc, split)
    tokens = list(scene_of)
    check_sample_tokens(results, tokens, split)
    # In the split's order, so that the file does not depend on the number of ranks.
    results = results.in_order(tokens)
    write_submission(results, submission)
    if not nusc.sample_annotation:
        return None
    config = config_factory(DEVKIT_CONFIG)
    truth = read_truth(nusc, tokens, config)
    scores = score(arrays_of_submission(results), truth, config)
    content = {**scores.metrics.serialize(), "meta": META}
    write_json(content, summary, indent=2)
    theirs = None
    # The devkit fails on an empty set of boxes.
    if official and len(scores.matches.predictions) and len(truth.boxes):
        devkit = DetectionEval(nusc, config, str(submission), split, scratch, verbose=False)
        theirs = _plain(devkit.evaluate()[0].serialize())
    return ScoredDetections(
        version=version,
        split=split,
        sample_tokens=tokens,
        scene_names=list(scene_of.values()),
        summary=_plain(content),
        official=theirs,
        analysis=analyse(scores, truth.scope.ego, config),
    )


def differences(
    summary: Mapping[str, Any], official: Mapping[str, Any], tolerance: float
) -> dict[str, tuple[float, float]]:
    """Metrics of two summaries that differ by more than ``tolerance``: name -> both values."""
    ours, theirs = (dict(_numbers(each)) for each in (summary, official))
    pairs = {name: (ours.get(name, math.nan), theirs[name]) for name in theirs}
    return {
        name: (one, other)
        for name, (one, other) in pairs.items()
        if not abs(one - other) <= tolerance and not (math.isnan(one) and math.isnan(other))
    }


def _numbers(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in summary.items():
        if key in _NO_METRICS:
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", float(value)


def _plain(value: Any) -> Any:
    """Plain dicts for the devkit's, whose factories of defaults other processes can't be sent."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _scenes_of_samples(nusc: NuScenes, split: str) -> dict[str, str]:
    """Sample token -> scene of the split's samples that this version holds."""
    scenes = set(get_scenes_of_split(split, nusc))
    names = {scene["token"]: scene["name"] for scene in nusc.scene}
    found = {
        sample["token"]: names[sample["scene_token"]]
        for sample in nusc.sample
        if names[sample["scene_token"]] in scenes
    }
    if not found:
        raise ValueError(
            f"split {split!r} has no sample in {nusc.version} at {nusc.dataroot}; scenes there: "
            f"{[scene['name'] for scene in nusc.scene[:5]]}"
        )
    return found
