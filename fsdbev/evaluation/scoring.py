"""Checks, writes and scores the submission of a data set.

For the full nuScenes data set the devkit's tables are gigabytes of small objects, so the evaluators
run these functions in a subprocess.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fsdbev.utils.atomic_write import write_json

from .box_arrays import EncodedSubmission, submission_arrays
from .error_analysis import Analysis, analyse
from .metrics import Scores, score
from .nuscenes_truth import TableTruth
from .submission import META, check_sample_tokens, write_submission
from .truth import TruthSource

#: Entries of the devkit's summary that are not metrics.
_NOT_METRICS = ("meta", "cfg", "eval_time")


@dataclass(frozen=True)
class ScoredDetections:
    """Metrics of an evaluation and their analysis.

    Attributes:
        facts: names and values that identify the evaluated data, such as data set and split.
        sample_tokens: S tokens of the samples.
        scene_names: S names of their scenes.
        summary: the metrics, as in ``metrics_summary.json``.
        analysis: analysis of the same samples.
        notes: sentences about the ground truth and the predictions, for log and report.
        official: the devkit's own summary; None if the devkit did not run.
        unofficial: why the devkit did not run although requested; "" if it ran.
        results: submission boxes by sample token, decoded at each access. Empty in the result of
            :func:`write_and_score`, whose caller has them already.
    """

    facts: Mapping[str, str]
    sample_tokens: Sequence[str]
    scene_names: Sequence[str]
    summary: dict[str, Any]
    analysis: Analysis
    notes: Sequence[str] = ()
    official: dict[str, Any] | None = None
    unofficial: str = ""
    results: EncodedSubmission = field(default_factory=EncodedSubmission)


def write_and_score(
    results: EncodedSubmission, source: TruthSource, *, submission: Path, summary: Path
) -> ScoredDetections | None:
    """Checks, writes and scores predictions.

    Args:
        results: submission boxes by sample token.
        source: the samples and their ground truth.
        submission: path of the submission file to write.
        summary: path of the metrics file to write.

    Returns:
        The metrics; None without annotations (a test split).

    Raises:
        ValueError: ``results`` does not have exactly the samples of the data set.
    """
    scenes = source.scenes
    check_sample_tokens(results, scenes, source.name)
    # In the order of the data set, so that the file does not depend on the number of ranks.
    results = results.in_order(list(scenes))
    write_submission(results, submission)
    scored = score_results(results, source, META)
    if scored is not None:
        write_json(scored.summary, summary, indent=2)
    return scored


def score_results(
    results: EncodedSubmission, source: TruthSource, meta: Mapping[str, Any]
) -> ScoredDetections | None:
    """Scores predictions.

    Args:
        results: checked submission boxes of the samples, in any order, which decides between equal
            scores.
        source: the samples and their ground truth.
        meta: declaration of the submission for the summary, such as ``META``.

    Returns:
        The metrics; None without annotations (a test split).
    """
    truth, task, scenes = source.truth, source.task, source.scenes
    if truth is None:
        return None
    scores = compute_scores(results, source)
    return ScoredDetections(
        facts=source.facts,
        sample_tokens=list(scenes),
        scene_names=list(scenes.values()),
        summary=_plain_dicts({**scores.metrics.serialize(), "meta": meta}),
        analysis=analyse(scores, truth.scope.ego, task),
        notes=list(truth.notes),
    )


def compute_scores(results: EncodedSubmission, source: TruthSource) -> Scores:
    """Matches checked submission boxes with the ground truth of their samples and computes the
    metrics; samples are numbered in the order of ``source.scenes``."""
    task = source.task
    boxes = submission_arrays(results, task.names, task.attributes)
    position = {token: number for number, token in enumerate(source.scenes)}
    samples = np.array([position[token] for token in results], np.int64)
    return score(replace(boxes, sample=samples[boxes.sample]), source.truth, task)


def score_with_devkit(
    results: EncodedSubmission,
    source: TableTruth,
    *,
    submission: Path,
    summary: Path,
    scratch: str,
) -> ScoredDetections | None:
    """Calls :func:`write_and_score`, and the devkit too if it can compute the same metrics.

    Args:
        results, source, submission, summary: as for :func:`write_and_score`.
        scratch: temporary folder for the devkit's output.
    """
    scored = write_and_score(results, source, submission=submission, summary=summary)
    return None if scored is None else add_official(scored, source, submission, scratch)


def add_official(
    scored: ScoredDetections, source: TableTruth, submission: Path, scratch: str
) -> ScoredDetections:
    """Adds the devkit's own metrics of a submission file, or why it cannot compute the same.

    Args:
        scored: result for the boxes of the file.
        source: the samples and their ground truth.
        submission: path of the file.
        scratch: temporary folder for the devkit's output.
    """
    reason = source.why_unofficial()
    # DetectionEval raises an error for an empty set of boxes.
    if not reason and not scored.analysis.num_predictions.any():
        reason = "there are no predictions within the evaluation ranges"
    if reason:
        return replace(scored, unofficial=reason)
    return replace(scored, official=_plain_dicts(source.devkit_summary(submission, scratch)))


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
    return {name: pair for name, pair in pairs.items() if not _agree(*pair, tolerance)}


def _agree(one: float, other: float, tolerance: float) -> bool:
    """Whether two metrics agree; two NaN do, and two equal infinities."""
    return one == other or abs(one - other) <= tolerance or (math.isnan(one) and math.isnan(other))


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
