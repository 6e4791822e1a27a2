"""DatasetEvaluator for nuScenes' detection task: predictions in key ego -> mAP, NDS, TP errors."""

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
from fsdbev.utils.atomic_write import unfinished_paths
from fsdbev.utils.processes import run_in_subprocess

from .encoded import EncodedSubmission
from .scoring import ScoredDetections, summary_differences, write_and_score
from .submission import ATTRIBUTE_RULES, boxes_to_submission
from .summary import format_table, summarize

if TYPE_CHECKING:
    from fsdbev.d2.structures import Instances

logger = logging.getLogger(__name__)

#: Largest difference from the devkit's metrics that counts as agreement. Rounding accounts for less
#: than a thousandth of it.
_TOLERANCE = 1e-6


class NuScenesEvaluator(DatasetEvaluator):
    """Collects predictions, writes the submission file and computes nuScenes' detection metrics.

    Predictions are kept as the text of the submission file. The data set's tables and the metrics
    need gigabytes of small objects for the full set; a subprocess handles them, so that a training
    process that evaluates from time to time does not retain the memory.

    The metrics are computed on arrays of all boxes. With ``official`` the devkit computes them as
    well, in about twenty times the time: its table is logged, and every metric that differs causes
    a warning.

    Files in ``output_dir``: ``results_nusc.json``, the submission; ``metrics_summary.json``, the
    metrics as the devkit writes them. ``evaluate`` returns ``{"nuscenes": {"mAP", "NDS", "mATE",
    "mASE", "mAOE", "mAVE", "mAAE", "AP_<class>"...}}``, precisions as fractions of 1, errors in the
    devkit's units (m, 1 - IoU, rad, m/s, 1 - accuracy), or ``{}`` without annotations (the test
    split).
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
            dataroot: nuScenes folder, which contains the folder ``version``.
            version: e.g. ``v1.0-trainval``.
            split: an official split or one of the version's ``splits.json``.
            output_dir: folder of the written files; created if missing.
            class_names: names of the class indices in ``pred_classes``.
            distributed: whether to gather the predictions of all ranks; otherwise each rank
                evaluates its own.
            official: whether the devkit computes the metrics as well. With "auto" the caller of
                ``evaluate`` sets the attribute: ``fsdbev.engine.evaluate`` sets False during
                training and True otherwise. The devkit does not run while it is "auto".

        Raises:
            ValueError: ``official`` is none of these, ``split`` is an official split of another
                version, or a class is not one of nuScenes' detection task.
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
                f"class_names has {sorted(unknown)}, which are not nuScenes' detection classes"
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
        """Path of the submission file that ``evaluate`` writes."""
        return self.output_dir / "results_nusc.json"

    @property
    def summary_path(self) -> Path:
        """Path of the metrics file that ``evaluate`` writes, in the devkit's format."""
        return self.output_dir / "metrics_summary.json"

    def reset(self) -> None:
        """Discards predictions and metrics."""
        self._results = EncodedSubmission()
        self._scored = None

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Adds the predictions of a batch; for a repeated sample the first predictions are kept.

        Args:
            inputs: sample dicts, of which ``sample_token``, ``ego2global``, ``reference_camera``
                and ``bev_aug`` (default: identity) are used.
            outputs: ``{"instances": Instances}`` for each sample, with ``pred_boxes_3d`` in the key
                ego frame after ``bev_aug``, ``scores`` and ``pred_classes``.

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
        """Gathers, checks, writes and scores the predictions.

        Returns:
            ``{"nuscenes": metrics}`` on the main rank (see the class); ``{}`` on other ranks and
            without annotations.

        Raises:
            ValueError: the predictions do not have exactly the samples of the split.
            ChildProcessError: the process that computes the metrics was killed.
        """
        # Before other ranks return: gather is a collective, which all ranks must call.
        gathered = comm.gather(self._results) if self.distributed else [self._results]
        if self.distributed and not comm.is_main_process():
            return OrderedDict()
        results = _merge(gathered)
        scored = self._write_and_score(results)
        logger.info("Wrote the submission of %d samples to %s", len(results), self.submission_path)
        if scored is None:
            logger.info("%s has no annotations, so there are no metrics", self.version)
            return OrderedDict()
        # Added here: the subprocess does not send back the predictions that it was given.
        self._scored = replace(scored, results=results)
        _log(scored)
        return OrderedDict(nuscenes=summarize(scored.summary))

    def scored_detections(self) -> ScoredDetections | None:
        """Returns metrics and analysis of the last ``evaluate`` since the reset; None without
        annotations and on ranks other than the main one."""
        return self._scored

    def _write_and_score(self, results: EncodedSubmission) -> ScoredDetections | None:
        """Runs :func:`write_and_score` in a subprocess.

        Raises:
            ChildProcessError: the subprocess was killed.
        """
        # "is True", since the string "auto", for which the devkit does not run, is true as well.
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
                "; official=False needs a fraction of the memory"
                if official
                else "; give the job more memory, or evaluate alone on a larger machine"
            )
            raise ChildProcessError(
                f"the metrics of split {self.split!r} could not be computed: {error}{remedy}"
            ) from error
        finally:
            self._remove_partial_files()

    def _remove_partial_files(self) -> None:
        """Removes the temporary files of a subprocess that was killed while it wrote."""
        for path in (self.submission_path, self.summary_path):
            for partial in unfinished_paths(self.output_dir, path.name):
                partial.unlink(missing_ok=True)


def _log(scored: ScoredDetections) -> None:
    """Logs the table of metrics (the devkit's if it ran) and differences from the devkit."""
    analysis, official = scored.analysis, scored.official
    if not analysis.num_predictions.any() or not analysis.num_truth.any():
        logger.warning(
            "There are no predictions or no ground-truth boxes to evaluate in split %s",
            scored.split,
        )
    logger.info(
        "nuScenes %s, split %s%s:\n%s",
        scored.version,
        scored.split,
        ", computed by the devkit" if official else "",
        format_table(official or scored.summary),
    )
    if official:
        differing = summary_differences(scored.summary, official, _TOLERANCE)
        if not differing:
            logger.info("This project's metrics agree with the devkit's within %g", _TOLERANCE)
        for name, values in differing.items():
            logger.warning("%s is %r here, but %r by the devkit", name, *values)


def _in_key_ego(boxes: Boxes3D, sample: dict) -> Boxes3D:
    """Undoes the sample's BEV augmentation; returns float64 boxes on the CPU.

    float64, because global coordinates, the next step, can be thousands of metres.
    """
    boxes = boxes.to("cpu", torch.float64)
    if "bev_aug" not in sample:
        return boxes
    return boxes.transformed(invert(torch.as_tensor(sample["bev_aug"]).double().cpu()))


def _merge(gathered: Sequence[EncodedSubmission]) -> EncodedSubmission:
    """Merges the predictions of all ranks.

    Samplers pad their ranks to equal length, so several ranks can have the same sample; the lowest
    rank's predictions are kept.
    """
    merged: dict[str, bytes] = {}
    for results in gathered:
        merged = {**results.texts, **merged}
    duplicates = sum(map(len, gathered)) - len(merged)
    if duplicates:
        logger.info("%d samples are repeated on several ranks; the first is kept", duplicates)
    return EncodedSubmission(merged)
