"""Detectron2's DatasetEvaluator for nuScenes: predictions in key ego -> nuScenes' metrics."""

from __future__ import annotations

import logging
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.d2.utils import comm
from fsdbev.structures import CLASS_NAMES, OFFICIAL_SPLITS, Boxes3D, invert, key_ego2global
from fsdbev.utils.atomic_write import leftovers
from fsdbev.utils.processes import run_in_subprocess

from .encoded import EncodedSubmission
from .scoring import ScoredDetections, differences, write_and_score
from .submission import ATTRIBUTE_RULES, boxes_to_submission
from .summary import format_table, summarize

if TYPE_CHECKING:
    from fsdbev.d2.structures import Instances

logger = logging.getLogger(__name__)

#: Rounding makes the metrics differ from the devkit's by less than a thousandth of this.
_TOLERANCE = 1e-6


class NuScenesEvaluator(DatasetEvaluator):
    """Collects predictions, writes the submission file and computes nuScenes' detection metrics.

    Predictions are kept as the text that is written; the data set's tables and the metrics, which
    take gigabytes in small pieces for the full set, are left to a process of their own, so that a
    training that evaluates now and then does not keep that memory.

    The metrics are computed on arrays of all boxes. With ``official`` the devkit computes them too,
    in about twenty times the time: its table is logged, and each metric that differs is a warning.

    Files in ``output_dir``: ``results_nusc.json``, the submission; ``metrics_summary.json``, the
    metrics as the devkit writes them. ``evaluate`` returns ``{"nuscenes": {"mAP", "NDS", "mATE",
    "mASE", "mAOE", "mAVE", "mAAE", "AP_<class>"...}}``, precisions as fractions of 1, errors in the
    devkit's units (m, 1 - IoU, rad, m/s, 1 - accuracy); without annotations (the test split)
    ``{}``.
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
        official: bool | Literal["auto"] = "auto",
    ) -> None:
        """
        Args:
            dataroot: nuScenes folder, which holds the folder ``version``.
            version: e.g. ``v1.0-trainval``.
            split: an official split or one of the version's ``splits.json``.
            output_dir: where the files go; made when missing.
            class_names: what ``pred_classes`` indexes.
            distributed: gather the predictions of all ranks; else each rank evaluates its own.
            official: let the devkit compute the metrics too. "auto" leaves that to the caller of
                ``evaluate``, who sets the attribute: ``fsdbev.engine.evaluate`` makes it False in a
                training, else True. Where nobody sets it, the devkit does not run.
        """
        if not isinstance(official, bool) and official != "auto":
            raise ValueError(f"official must be true, false or 'auto', got {official!r}")
        needed = OFFICIAL_SPLITS.get(split)
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
        self.official = official
        self._results = EncodedSubmission()
        self._scored: ScoredDetections | None = None

    @property
    def submission_path(self) -> Path:
        """The submission file that ``evaluate`` writes."""
        return self.output_dir / "results_nusc.json"

    @property
    def summary_path(self) -> Path:
        """The metrics as the devkit writes them, which ``evaluate`` writes too."""
        return self.output_dir / "metrics_summary.json"

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
            ChildProcessError: the process that computes the metrics was killed.
        """
        gathered = comm.gather(self._results) if self.distributed else [self._results]
        if self.distributed and not comm.is_main_process():
            return OrderedDict()
        results = _merge(gathered)
        scored = self._write_and_score(results)
        logger.info("Wrote the submission of %d samples to %s", len(results), self.submission_path)
        if scored is None:
            logger.info("%s has no annotations: nothing to score against", self.version)
            return OrderedDict()
        self._scored = replace(scored, results=results)
        _log(scored)
        return OrderedDict(nuscenes=summarize(scored.summary))

    def scored_detections(self) -> ScoredDetections | None:
        """A closer look at what the last ``evaluate`` scored since the reset; None where it scored
        nothing: without annotations, or on a rank other than the main one."""
        return self._scored

    def _write_and_score(self, results: EncodedSubmission) -> ScoredDetections | None:
        official = self.official is True
        try:
            with tempfile.TemporaryDirectory() as scratch:
                return run_in_subprocess(
                    write_and_score,
                    results,
                    dataroot=self.dataroot,
                    version=self.version,
                    split=self.split,
                    submission=self.submission_path,
                    summary=self.summary_path,
                    scratch=scratch,
                    official=official,
                )
        except ChildProcessError as error:
            remedy = (
                "; with official=False they take a fraction of it"
                if official
                else "; give the job more, or evaluate the checkpoint alone where there is more"
            )
            raise ChildProcessError(
                f"the metrics of split {self.split!r} could not be computed: {error}{remedy}"
            ) from error
        finally:
            self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        """What a process leaves that was killed while it wrote."""
        for path in (self.submission_path, self.summary_path):
            for unfinished in leftovers(self.output_dir, path.name):
                unfinished.unlink(missing_ok=True)


def _log(scored: ScoredDetections) -> None:
    """Logs the table, the devkit's where it ran, and where the devkit's numbers differ."""
    analysis, official = scored.analysis, scored.official
    if not analysis.num_predictions.any() or not analysis.num_truth.any():
        logger.warning(
            "There are no predicted or no true boxes that count in split %s", scored.split
        )
    logger.info(
        "nuScenes %s, split %s%s:\n%s",
        scored.version,
        scored.split,
        ", computed by the devkit" if official else "",
        format_table(official or scored.summary),
    )
    if official:
        differing = differences(scored.summary, official, _TOLERANCE)
        if not differing:
            logger.info("The metrics computed here agree with these within %g", _TOLERANCE)
        for name, values in differing.items():
            logger.warning("%s is %r here, but %r by the devkit", name, *values)


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
