"""Detectron2's DatasetEvaluator for nuScenes: predictions in key ego -> the devkit's metrics."""

from __future__ import annotations

import logging
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionConfig, DetectionMetrics
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import get_scenes_of_split

from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.d2.utils import comm
from fsdbev.own_process import in_own_process
from fsdbev.structures import CLASS_NAMES, Boxes3D, invert, key_ego2global

from .analysis import Analysis, analyse
from .attributes import ATTRIBUTE_RULES
from .box_arrays import arrays_of_submission
from .encoded import EncodedSubmission
from .fast_metrics import score
from .report import format_table, summarize
from .submission import (
    META,
    boxes_to_submission,
    check_sample_tokens,
    write_json,
    write_submission,
)
from .truth import read_truth

if TYPE_CHECKING:
    from fsdbev.d2.structures import Instances

logger = logging.getLogger(__name__)

DEVKIT_CONFIG = "detection_cvpr_2019"

#: The official splits and how the name of the version that holds them ends.
_OFFICIAL_SPLITS = {
    "train": "trainval",
    "val": "trainval",
    "train_detect": "trainval",
    "train_track": "trainval",
    "mini_train": "mini",
    "mini_val": "mini",
    "test": "test",
}


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


@dataclass(frozen=True)
class _Written:
    """What was written, and the devkit's summary of it: None without annotations."""

    sample_tokens: list[str]
    summary: dict[str, Any] | None = None
    nothing_to_match: bool = False


class NuScenesEvaluator(DatasetEvaluator):
    """Collects predictions, writes the submission file and runs the devkit's detection metrics.

    Predictions are kept as the text that is written; the data set's tables and the metrics, which
    take gigabytes in small pieces for the full set, are left to a process of their own, so that a
    training that evaluates now and then does not keep that memory.

    Files in ``output_dir``: ``results_nusc.json``, the submission; ``metrics_summary.json``, the
    devkit's summary. ``evaluate`` returns ``{"nuscenes": {"mAP", "NDS", "mATE", "mASE", "mAOE",
    "mAVE", "mAAE", "AP_<class>"...}}``, precisions as fractions of 1, errors in the devkit's units
    (m, 1 - IoU, rad, m/s, 1 - accuracy); without annotations (the test split) ``{}``.
    """

    def __init__(
        self,
        *,
        dataroot: str,
        version: str,
        split: str,
        output_dir: str,
        class_names: Sequence[str] = CLASS_NAMES,
        distributed: bool = True,
        fast_metrics: bool = False,
    ) -> None:
        """
        Args:
            dataroot: nuScenes folder, which holds the folder ``version``.
            version: e.g. ``v1.0-trainval``.
            split: an official split or one of the version's ``splits.json``.
            output_dir: where the files go; made when missing.
            class_names: what ``pred_classes`` indexes.
            distributed: gather the predictions of all ranks; else each rank evaluates its own.
            fast_metrics: compute the metrics for all boxes at once: the devkit's numbers to the
                last bit, in a fraction of its time and memory. Else the devkit computes them.
        """
        needed = _OFFICIAL_SPLITS.get(split)
        if needed and not version.endswith(needed):
            raise ValueError(
                f"split {split!r} belongs to a version ending in {needed!r}, got {version!r}"
            )
        unknown = set(class_names) - set(ATTRIBUTE_RULES)
        if unknown:
            raise ValueError(
                f"class_names has {sorted(unknown)}, which nuScenes' detection task does not know"
            )
        self.dataroot = str(dataroot)
        self.version = version
        self.split = split
        self.output_dir = Path(output_dir)
        self.class_names = tuple(class_names)
        self.distributed = distributed
        self.fast_metrics = fast_metrics
        self._results = EncodedSubmission()
        self._scored: tuple[EncodedSubmission, dict[str, Any]] | None = None

    @property
    def submission_path(self) -> Path:
        """The submission file that ``evaluate`` writes."""
        return self.output_dir / "results_nusc.json"

    def reset(self) -> None:
        self._results = EncodedSubmission()
        self._scored = None

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Keeps the predictions of some samples; of a sample seen twice, the first.

        Args:
            inputs: sample dicts; ``sample_token``, ``ego2global``, ``reference_camera`` and
                ``bev_aug`` (identity where it is missing) matter.
            outputs: ``{"instances": Instances}`` a sample, with ``pred_boxes_3d`` in key ego as
                seen through ``bev_aug``, ``scores`` and ``pred_classes``.

        Raises:
            ValueError: a prediction is malformed; the message names the sample.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            instances: Instances = output["instances"]
            token = sample["sample_token"]
            boxes = boxes_to_submission(
                token,
                _in_key_ego(instances.pred_boxes_3d, sample),
                instances.scores,
                instances.pred_classes,
                key_ego2global=key_ego2global(sample),
                class_names=self.class_names,
            )
            self._results.add(token, boxes)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gathers, checks, writes and scores. Ranks other than the main one return ``{}``.

        Raises:
            ValueError: samples of the split are missing, or others are there.
        """
        gathered = comm.gather(self._results) if self.distributed else [self._results]
        if self.distributed and not comm.is_main_process():
            return OrderedDict()
        results = _merge(gathered)
        written = in_own_process(self._write_and_score, results)
        tokens, summary = written.sample_tokens, written.summary
        logger.info("Wrote the submission of %d samples to %s", len(tokens), self.submission_path)
        if summary is None:
            logger.info("%s has no annotations: nothing to score against", self.version)
            return OrderedDict()
        if written.nothing_to_match:
            logger.warning("There are no predicted or no true boxes in split %s", self.split)
        self._scored = (_in_order(results, tokens), summary)
        logger.info("nuScenes %s, split %s:\n%s", self.version, self.split, format_table(summary))
        return OrderedDict(nuscenes=summarize(summary))

    def scored_detections(self) -> ScoredDetections | None:
        """A closer look at what the last ``evaluate`` scored since the reset; None where it scored
        nothing: without annotations, or on a rank other than the main one.

        Reads the tables in this process.
        """
        if self._scored is None:
            return None
        results, summary = self._scored
        nusc, tokens = self._load_tables(), list(results)
        config = config_factory(DEVKIT_CONFIG)
        truth = read_truth(nusc, tokens, config)
        samples = (nusc.get("sample", token) for token in tokens)
        return ScoredDetections(
            version=self.version,
            split=self.split,
            sample_tokens=tokens,
            scene_names=[nusc.get("scene", sample["scene_token"])["name"] for sample in samples],
            results=results,
            summary=summary,
            analysis=analyse(arrays_of_submission(results), truth, config, len(tokens)),
        )

    def _write_and_score(self, results: EncodedSubmission) -> _Written:
        """Checks, writes and scores the predictions of all ranks."""
        nusc = self._load_tables()
        tokens = _sample_tokens(nusc, self.split)
        check_sample_tokens(results, tokens, self.split)
        # In the split's order, so that the file does not depend on the number of ranks.
        results = _in_order(results, tokens)
        write_submission(results, self.submission_path)
        if not nusc.sample_annotation:
            return _Written(tokens)
        nothing = not any(results.values()) or not _has_truth(nusc, tokens)
        config = config_factory(DEVKIT_CONFIG)
        if nothing:
            metrics = _metrics_of_nothing(config)
        elif self.fast_metrics:
            metrics, _ = score(results, read_truth(nusc, tokens, config), config)
        else:
            # The devkit makes a folder for plots, which are not drawn here.
            with tempfile.TemporaryDirectory() as scratch:
                metrics, _ = DetectionEval(
                    nusc, config, str(self.submission_path), self.split, scratch, verbose=False
                ).evaluate()
        summary = {**metrics.serialize(), "meta": META}
        write_json(summary, self.output_dir / "metrics_summary.json", indent=2)
        return _Written(tokens, _plain(summary), nothing)

    def _load_tables(self) -> NuScenes:
        return NuScenes(version=self.version, dataroot=self.dataroot, verbose=False)


def _plain(value: Any) -> Any:
    """Plain dicts for the devkit's, whose factories of defaults other processes can't be sent."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _in_key_ego(boxes: Boxes3D, sample: dict) -> Boxes3D:
    """Undoes the sample's BEV augmentation; float64 on the CPU."""
    boxes = boxes.to("cpu", torch.float64)
    if "bev_aug" not in sample:
        return boxes
    return boxes.transformed(invert(torch.as_tensor(sample["bev_aug"]).double().cpu()))


def _merge(gathered: Sequence[EncodedSubmission]) -> EncodedSubmission:
    """Predictions of all ranks; of a sample that several have (padded sampler), the first."""
    merged: dict[str, bytes] = {}
    for results in gathered:
        merged = {**results.texts, **merged}
    duplicates = sum(map(len, gathered)) - len(merged)
    if duplicates:
        logger.info("%d samples were predicted by several ranks; kept the first", duplicates)
    return EncodedSubmission(merged)


def _in_order(results: EncodedSubmission, sample_tokens: Sequence[str]) -> EncodedSubmission:
    return EncodedSubmission({token: results.texts[token] for token in sample_tokens})


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
