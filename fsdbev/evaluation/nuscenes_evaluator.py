"""DatasetEvaluator for data in nuScenes' table format, with the devkit's own evaluation."""

from __future__ import annotations

import logging
import tempfile
from typing import Literal

from fsdbev.data.dataset import FrameDataset
from fsdbev.structures import NUSCENES_CLASSES, ClassSet
from fsdbev.utils.processes import run_in_subprocess

from .box_arrays import EncodedSubmission
from .detection_evaluator import DetectionEvaluator
from .nuscenes_truth import TableTruth, check_split
from .scoring import ScoredDetections, score_with_devkit, summary_differences
from .truth import UnseenObjects

logger = logging.getLogger(__name__)

#: Largest difference from the devkit's metrics that counts as agreement. Rounding accounts for less
#: than a thousandth of it.
_TOLERANCE = 1e-6


class NuScenesEvaluator(DetectionEvaluator):
    """Collects predictions, writes the submission file and computes nuScenes' detection metrics.

    The ground truth is that of nuScenes' tables, for any classes of its categories and for the
    samples of an index, which may be part of a split. The tables need gigabytes of small objects
    for the full set; the subprocess reads them.

    With ``official`` the devkit computes the metrics as well, in about twenty times the time: its
    table is logged, and every metric that differs causes a warning. The devkit evaluates nuScenes'
    ten classes and whole splits only; otherwise the log says why it does not run.

    Files in ``output_dir``: ``results_nusc.json``, the submission; ``metrics_summary.json``, the
    metrics as the devkit writes them. ``evaluate`` returns ``{"nuscenes": {"mAP", "NDS", "mATE",
    "mASE", "mAOE", "mAVE", "mAAE", "AP_<class>"...}}``, as :class:`DetectionEvaluator` does, or
    ``{}`` without annotations (the test split).
    """

    task_name = "nuscenes"
    submission_name = "results_nusc.json"

    def __init__(
        self,
        *,
        dataroot: str,
        version: str,
        split: str,
        output_dir: str,
        dataset: FrameDataset | None = None,
        classes: ClassSet | None = None,
        unseen_objects: UnseenObjects = "ignore",
        distributed: bool = True,
        official: bool | Literal["auto"] = "auto",
    ) -> None:
        """
        Args:
            dataroot: nuScenes folder, which contains the folder ``version``.
            version: e.g. ``v1.0-trainval``.
            split: name of the split. Without ``dataset``, an official split or one of the version's
                ``splits.json``, whose samples are evaluated.
            output_dir: folder of the written files; created if missing.
            dataset: the evaluated data set, that of the data loader.
            classes: classes of the predictions; None for those of the data set, without one
                nuScenes' ten.
            unseen_objects: see :class:`DetectionEvaluator`.
            distributed: whether to gather the predictions of all ranks; otherwise each rank
                evaluates its own.
            official: whether the devkit computes the metrics as well. With "auto" the caller of
                ``evaluate`` sets the attribute: ``fsdbev.engine.evaluate`` sets False during
                training and True otherwise. The devkit does not run while it is "auto".

        Raises:
            ValueError: ``official`` is none of these, ``split`` is an official split of another
                version or the name of an official split for other scenes in ``splits.json``, or
                as for :class:`DetectionEvaluator`.
        """
        if not isinstance(official, bool) and official != "auto":
            raise ValueError(f"official must be true, false or 'auto', got {official!r}")
        check_split(dataroot, version, split)
        if classes is None and dataset is None:
            classes = NUSCENES_CLASSES
        super().__init__(
            dataset=dataset,
            output_dir=output_dir,
            classes=classes,
            unseen_objects=unseen_objects,
            distributed=distributed,
        )
        self.dataroot = str(dataroot)
        self.version = version
        self.split = split
        self.official = official

    def _truth_source(self) -> TableTruth:
        return TableTruth(
            classes=self.classes,
            dataset=self.dataset,
            unseen_objects=self.unseen_objects,
            dataroot=self.dataroot,
            version=self.version,
            split=self.split,
        )

    def _score(self, results: EncodedSubmission, source: TableTruth) -> ScoredDetections | None:
        # "is True", since the string "auto", for which the devkit does not run, is true as well.
        if self.official is not True:
            return super()._score(results, source)
        paths = {"submission": self.submission_path, "summary": self.summary_path}
        with tempfile.TemporaryDirectory() as scratch:
            return run_in_subprocess(score_with_devkit, results, source, scratch=scratch, **paths)

    def _memory_remedy(self) -> str:
        if self.official is True:
            return "official=False needs a fraction of the memory"
        return super()._memory_remedy()

    def _log(self, scored: ScoredDetections) -> None:
        """Logs the table of metrics, and how the devkit's differ or why it did not run."""
        super()._log(scored)
        if scored.unofficial:
            logger.info("nuScenes' devkit does not compute the metrics: %s", scored.unofficial)
        if not scored.official:
            return
        differing = summary_differences(scored.summary, scored.official, _TOLERANCE)
        if not differing:
            logger.info("This project's metrics agree with the devkit's within %g", _TOLERANCE)
        for name, values in differing.items():
            logger.warning("%s is %r here, but %r by the devkit", name, *values)
