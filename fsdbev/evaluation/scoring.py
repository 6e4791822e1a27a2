"""Checks, writes and scores the submission of a split.

For the full data set the devkit's tables are gigabytes of small objects, so the evaluator runs
:func:`write_and_score` in a subprocess.
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

from fsdbev.utils.atomic_write import write_json

from .box_arrays import submission_arrays
from .encoded import EncodedSubmission
from .error_analysis import Analysis, analyse
from .metrics import score
from .submission import META, check_sample_tokens, write_submission
from .truth import read_truth

#: Ranges, distance thresholds and weights of nuScenes' official detection benchmark.
DEVKIT_CONFIG = "detection_cvpr_2019"
#: Entries of the devkit's summary that are not metrics.
_NOT_METRICS = ("meta", "cfg", "eval_time")


@dataclass(frozen=True)
class ScoredDetections:
    """Metrics of an evaluation and their analysis.

    Attributes:
        version: nuScenes version, e.g. ``v1.0-trainval``.
        split: name of the split.
        sample_tokens: S tokens of the split's samples.
        scene_names: S names of their scenes.
        summary: the metrics, as in ``metrics_summary.json``.
        official: the devkit's own summary; None if the devkit did not run.
        analysis: analysis of the same samples.
        results: submission boxes by sample token, decoded at each access. Empty in the result of
            :func:`write_and_score`, whose caller has them already.
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
        results: submission boxes by sample token.
        dataroot: nuScenes folder.
        version: nuScenes version, e.g. ``v1.0-trainval``.
        split: an official split or one of the version's ``splits.json``.
        submission: path of the submission file to write.
        summary: path of the metrics file to write.
        scratch: temporary folder for the devkit's output.
        official: also score the submission with the devkit, unless predictions or ground truth
            are empty.

    Returns:
        The metrics; None for a version without annotations (the test split).

    Raises:
        ValueError: ``results`` does not have exactly the samples of the split, or the split has no
            samples in this version.
    """
    nusc = NuScenes(version=version, dataroot=dataroot, verbose=False)
    scene_of = _scenes_of_samples(nusc, split)
    tokens = list(scene_of)
    check_sample_tokens(results, tokens, split)
    # Sorted by the split's order, so that the file does not depend on the number of ranks.
    results = results.in_order(tokens)
    write_submission(results, submission)
    if not nusc.sample_annotation:
        return None
    config = config_factory(DEVKIT_CONFIG)
    truth = read_truth(nusc, tokens, config)
    scores = score(submission_arrays(results), truth, config)
    content = {**scores.metrics.serialize(), "meta": META}
    write_json(content, summary, indent=2)
    devkit_summary = None
    # DetectionEval raises an error for an empty set of boxes.
    if official and len(scores.matches.predictions) and len(truth.boxes):
        devkit = DetectionEval(nusc, config, str(submission), split, scratch, verbose=False)
        devkit_summary = _plain_dicts(devkit.evaluate()[0].serialize())
    return ScoredDetections(
        version=version,
        split=split,
        sample_tokens=tokens,
        scene_names=list(scene_of.values()),
        summary=_plain_dicts(content),
        official=devkit_summary,
        analysis=analyse(scores, truth.scope.ego, config),
    )


def summary_differences(
    summary: Mapping[str, Any], official: Mapping[str, Any], tolerance: float
) -> dict[str, tuple[float, float]]:
    """Compares two metrics summaries.

    Args:
        summary: metrics of this project.
        official: metrics of the devkit.
        tolerance: largest absolute difference that counts as agreement.

    Returns:
        Metric -> (value in ``summary``, value in ``official``) of the metrics that differ; a metric
        that ``summary`` lacks has the value NaN. Two NaN agree.
    """
    ours, theirs = dict(_flat_metrics(summary)), dict(_flat_metrics(official))
    pairs = {name: (ours.get(name, math.nan), theirs[name]) for name in theirs}
    return {
        name: (one, other)
        for name, (one, other) in pairs.items()
        # "not <=" rather than ">": a NaN on one side only is a difference.
        if not abs(one - other) <= tolerance and not (math.isnan(one) and math.isnan(other))
    }


def _flat_metrics(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields names and values of the metrics; nested names are joined with slashes."""
    for key, value in summary.items():
        if key in _NOT_METRICS:
            continue
        if isinstance(value, Mapping):
            yield from _flat_metrics(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", float(value)


def _plain_dicts(value: Any) -> Any:
    """Converts the devkit's nested default dicts to plain dicts. Their factories are local
    functions, which cannot be pickled for another process."""
    if isinstance(value, dict):
        return {key: _plain_dicts(item) for key, item in value.items()}
    return value


def _scenes_of_samples(nusc: NuScenes, split: str) -> dict[str, str]:
    """Returns sample token -> scene name of the split's samples in this version.

    Raises:
        ValueError: this version has no sample of the split.
    """
    scenes = set(get_scenes_of_split(split, nusc))
    names = {scene["token"]: scene["name"] for scene in nusc.scene}
    found = {
        sample["token"]: names[sample["scene_token"]]
        for sample in nusc.sample
        if names[sample["scene_token"]] in scenes
    }
    if not found:
        raise ValueError(
            f"split {split!r} has no sample in {nusc.version} at {nusc.dataroot}; its first scenes "
            f"are {[scene['name'] for scene in nusc.scene[:5]]}"
        )
    return found
