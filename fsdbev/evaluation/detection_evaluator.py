"""DatasetEvaluator for 3D detection: predictions in key ego -> mAP, NDS, TP errors."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch

from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.d2.utils import comm
from fsdbev.data.dataset import FrameDataset
from fsdbev.structures import Boxes3D, ClassSet, invert, key_ego2global
from fsdbev.utils.atomic_write import unfinished_paths
from fsdbev.utils.processes import run_in_subprocess

from .box_arrays import EncodedSubmission
from .metrics import format_table, summarize
from .scoring import ScoredDetections, write_and_score
from .submission import boxes_to_submission
from .truth import IndexTruth, TruthSource, UnseenObjects

if TYPE_CHECKING:
    from fsdbev.d2.structures import Instances

logger = logging.getLogger(__name__)


class DetectionEvaluator(DatasetEvaluator):
    """Collects predictions, writes them and computes nuScenes' metrics, for any data and classes.

    The ground truth is that of the data set's frame index: all objects with LiDAR or radar points
    within the range of their class. Matching, AP over four distance thresholds, TP errors and NDS
    are nuScenes' (:mod:`.metrics`), without its rules for single classes, such as barriers. Classes
    without attributes have no attribute error, and an error that no class has does not count in
    NDS. Unknown velocities, which an index stores as 0, count as those of objects at rest.

    Predictions are kept as the text of the submission file, and the metrics are computed in a
    subprocess, so that a training process that evaluates from time to time does not retain the
    memory.

    Files in ``output_dir``: ``results.json``, the predictions in nuScenes' submission format;
    ``metrics_summary.json``, the metrics as nuScenes' devkit writes them. ``evaluate`` returns
    ``{"detection": {"mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE", "AP_<class>"...}}``,
    precisions as fractions of 1, errors in the devkit's units (m, 1 - IoU, rad, m/s,
    1 - accuracy), or ``{}`` without annotations.

    Attributes:
        task_name: key of the metrics in the result of ``evaluate``.
        submission_name: name of the file of predictions.
    """

    task_name = "detection"
    submission_name = "results.json"

    def __init__(
        self,
        *,
        dataset: FrameDataset,
        output_dir: str,
        classes: ClassSet | None = None,
        unseen_objects: UnseenObjects = "ignore",
        distributed: bool = True,
    ) -> None:
        """
        Args:
            dataset: the evaluated data set, that of the data loader.
            output_dir: folder of the written files; created if missing.
            classes: classes of the predictions, with ranges and attributes; None for those of the
                data set.
            unseen_objects: what becomes of objects without a 2D box in any of ``dataset.cameras``.
                "ignore" leaves them out of the ground truth, "count" does not. It has no effect on
                a data set with all cameras.
            distributed: whether to gather the predictions of all ranks; otherwise each rank
                evaluates its own.

        Raises:
            ValueError: the classes differ from those of the data set in name, order or categories,
                or ``unseen_objects`` is none of these.
        """
        if unseen_objects not in get_args(UnseenObjects):
            raise ValueError(f"unseen_objects must be 'ignore' or 'count', got {unseen_objects!r}")
        self.classes = dataset.classes if classes is None else classes
        if dataset is not None:  # None only in a subclass that gives the classes
            self.classes.check_labels(
                dataset.classes,
                own="the evaluator",
                others=f"data set {dataset.name!r}",
                remedy="prepare the data set with the classes of the config",
            )
        self.dataset = dataset
        self.output_dir = Path(output_dir)
        self.unseen_objects = unseen_objects
        self.distributed = distributed
        self.reset()

    @property
    def submission_path(self) -> Path:
        """Path of the file of predictions that ``evaluate`` writes."""
        return self.output_dir / self.submission_name

    @property
    def summary_path(self) -> Path:
        """Path of the metrics file that ``evaluate`` writes, in the devkit's format."""
        return self.output_dir / "metrics_summary.json"

    def reset(self) -> None:
        """Discards predictions and metrics."""
        self._results = EncodedSubmission()
        self._scored: ScoredDetections | None = None

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Adds the predictions of a batch; for a repeated sample the first predictions are kept.

        Args:
            inputs: sample dicts, of which ``sample_token``, the key ego pose (``key_ego2global``,
                or ``ego2global`` and ``reference_camera``) and ``bev_aug`` (default: identity) are
                used.
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
                classes=self.classes,
            )
            self._results.add(token, boxes)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gathers, checks, writes and scores the predictions.

        Returns:
            ``{task_name: metrics}`` on the main rank (see the class); ``{}`` on other ranks and
            without annotations.

        Raises:
            ValueError: the predictions do not have exactly the samples of the data set.
            ChildProcessError: the process that computes the metrics was killed.
        """
        # Before other ranks return: gather is a collective, which all ranks must call.
        gathered = comm.gather(self._results) if self.distributed else [self._results]
        if self.distributed and not comm.is_main_process():
            return OrderedDict()
        results, source = _merge(gathered), self._truth_source()
        try:
            scored = self._score(results, source)
        except ChildProcessError as error:
            raise ChildProcessError(
                f"the metrics of {source.name} could not be computed: {error}; "
                f"{self._memory_remedy()}"
            ) from error
        finally:
            self._remove_partial_files()
        logger.info("Wrote the predictions of %d samples to %s", len(results), self.submission_path)
        if scored is None:
            logger.info("%s has no annotations, so there are no metrics", source.name)
            return OrderedDict()
        # Added here: the subprocess does not send back the predictions that it was given.
        self._scored = replace(scored, results=results)
        self._log(scored)
        return OrderedDict({self.task_name: summarize(scored.summary)})

    def scored_detections(self) -> ScoredDetections | None:
        """Returns metrics and analysis of the last ``evaluate`` since the reset; None without
        annotations and on ranks other than the main one."""
        return self._scored

    def _truth_source(self) -> TruthSource:
        """Returns the samples and their ground truth, as yet unread."""
        return IndexTruth(
            classes=self.classes, dataset=self.dataset, unseen_objects=self.unseen_objects
        )

    def _score(self, results: EncodedSubmission, source: TruthSource) -> ScoredDetections | None:
        """Runs :func:`write_and_score` in a subprocess.

        Raises:
            ChildProcessError: the subprocess was killed.
        """
        paths = {"submission": self.submission_path, "summary": self.summary_path}
        return run_in_subprocess(write_and_score, results, source, **paths)

    def _memory_remedy(self) -> str:
        """Returns what helps if memory ran out, for the error message."""
        return "give the job more memory, or evaluate alone on a larger machine"

    def _log(self, scored: ScoredDetections) -> None:
        """Logs the table of metrics (the devkit's if it ran) and notes about the ground truth."""
        analysis, official = scored.analysis, scored.official
        where = ", ".join(f"{name} {value}" for name, value in scored.facts.items())
        if not analysis.num_predictions.any() or not analysis.num_truth.any():
            logger.warning(
                "There are no predictions or no ground-truth boxes to evaluate in %s", where
            )
        for note in scored.notes:
            logger.info("Ground truth: %s", note)
        origin = ", computed by the devkit" if official else ""
        logger.info("%s%s:\n%s", where, origin, format_table(official or scored.summary))

    def _remove_partial_files(self) -> None:
        """Removes the temporary files of a subprocess that was killed while it wrote."""
        for path in (self.submission_path, self.summary_path):
            for partial in unfinished_paths(self.output_dir, path.name):
                partial.unlink(missing_ok=True)


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
