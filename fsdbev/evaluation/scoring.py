"""A split's submission, checked, written and scored.

The devkit's tables and the metrics take gigabytes in small pieces for the full set: the evaluator
leaves this to a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionConfig, DetectionMetrics
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import get_scenes_of_split

from .analysis import Analysis, analyse
from .box_arrays import arrays_of_submission
from .encoded import EncodedSubmission
from .fast_metrics import score
from .submission import META, check_sample_tokens, write_json, write_submission
from .truth import read_truth

DEVKIT_CONFIG = "detection_cvpr_2019"


@dataclass(frozen=True)
class Split:
    """Samples of a data set: those of an official split, or of one of its ``splits.json``."""

    dataroot: str
    version: str
    name: str

    def load_tables(self) -> NuScenes:
        """The devkit's tables: gigabytes for the full set."""
        return NuScenes(version=self.version, dataroot=self.dataroot, verbose=False)


@dataclass(frozen=True)
class Written:
    """What ``write_and_score`` wrote.

    Attributes:
        sample_tokens: the split's, in the order of the tables and of the submission.
        summary: the devkit's; None without annotations.
        nothing_to_match: there were no predicted or no true boxes.
    """

    sample_tokens: list[str]
    summary: dict[str, Any] | None = None
    nothing_to_match: bool = False


@dataclass(frozen=True)
class ScoredDetections:
    """What an evaluation scored, and a closer look at it.

    Attributes:
        version, split: of the data set.
        sample_tokens: of its samples, S.
        scene_names: (S,) the scene of each.
        results: submission boxes by sample token, decoded when asked for.
        summary: the devkit's, as in ``metrics_summary.json``.
        analysis: the closer look; its samples are these.
    """

    version: str
    split: str
    sample_tokens: Sequence[str]
    scene_names: Sequence[str]
    results: EncodedSubmission
    summary: dict[str, Any]
    analysis: Analysis


def write_and_score(
    split: Split,
    results: EncodedSubmission,
    *,
    submission: Path,
    summary: Path,
    scratch: str,
    fast_metrics: bool,
) -> Written:
    """Checks, writes and scores the predictions of a split.

    Args:
        submission, summary: files to write.
        scratch: a folder for what the devkit leaves.
        fast_metrics: as of :class:`.nuscenes.NuScenesEvaluator`.

    Raises:
        ValueError: samples of the split are missing, or others are there.
    """
    nusc = split.load_tables()
    tokens = _sample_tokens(nusc, split.name)
    check_sample_tokens(results, tokens, split.name)
    # In the split's order, so that the file does not depend on the number of ranks.
    results = results.in_order(tokens)
    write_submission(results, submission)
    if not nusc.sample_annotation:
        return Written(tokens)
    nothing = not any(results.values()) or not _has_truth(nusc, tokens)
    config = config_factory(DEVKIT_CONFIG)
    if nothing:
        metrics = _metrics_of_nothing(config)
    elif fast_metrics:
        metrics, _ = score(results, read_truth(nusc, tokens, config), config)
    else:
        metrics, _ = DetectionEval(
            nusc, config, str(submission), split.name, scratch, verbose=False
        ).evaluate()
    content = {**metrics.serialize(), "meta": META}
    write_json(content, summary, indent=2)
    return Written(tokens, _plain(content), nothing)


def look_closer(
    split: Split, results: EncodedSubmission, summary: dict[str, Any]
) -> ScoredDetections:
    """A closer look at what ``write_and_score`` scored.

    Args:
        results: in the order of the split's samples.
        summary: the devkit's.
    """
    nusc, tokens = split.load_tables(), list(results)
    config = config_factory(DEVKIT_CONFIG)
    truth = read_truth(nusc, tokens, config)
    samples = (nusc.get("sample", token) for token in tokens)
    return ScoredDetections(
        version=split.version,
        split=split.name,
        sample_tokens=tokens,
        scene_names=[nusc.get("scene", sample["scene_token"])["name"] for sample in samples],
        results=results,
        summary=summary,
        analysis=analyse(arrays_of_submission(results), truth, config, len(tokens)),
    )


def _plain(value: Any) -> Any:
    """Plain dicts for the devkit's, whose factories of defaults other processes can't be sent."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _sample_tokens(nusc: NuScenes, split: str) -> list[str]:
    """Tokens of the split's samples that this version holds."""
    scenes = set(get_scenes_of_split(split, nusc))
    tokens = [
        sample["token"]
        for sample in nusc.sample
        if nusc.get("scene", sample["scene_token"])["name"] in scenes
    ]
    if not tokens:
        raise ValueError(
            f"split {split!r} has no sample in {nusc.version} at {nusc.dataroot}; scenes there: "
            f"{[scene['name'] for scene in nusc.scene[:5]]}"
        )
    return tokens


def _has_truth(nusc: NuScenes, tokens: Sequence[str]) -> bool:
    """Whether any annotation of these samples is of a detection class."""
    return any(
        category_to_detection_name(nusc.get("sample_annotation", annotation)["category_name"])
        for token in tokens
        for annotation in nusc.get("sample", token)["anns"]
    )


def _metrics_of_nothing(config: DetectionConfig) -> DetectionMetrics:
    """No matches: precision 0, every error 1. The devkit itself fails on an empty set of boxes."""
    metrics = DetectionMetrics(config)
    metrics.add_runtime(0.0)
    for name in config.class_names:
        for distance in config.dist_ths:
            metrics.add_label_ap(name, distance, 0.0)
        for error in TP_METRICS:
            metrics.add_label_tp(name, error, 1.0)
    return metrics
