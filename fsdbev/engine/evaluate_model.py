"""Evaluation of a model on the test data of a config."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig
from torch import nn

from fsdbev.checkpoint import ModelSettings
from fsdbev.d2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
)
from fsdbev.d2.utils import comm
from fsdbev.data.build import MappedDataset
from fsdbev.data.dataset import FrameDataset
from fsdbev.inference.streaming import StreamingPredictor, can_stream
from fsdbev.report import Evaluated, ReportSource
from fsdbev.utils.atomic_write import atomic_write

from .distributed import ThreadDump, TimedLoader, wait_for_rank0
from .lazy_builders import LazyBuilders

logger = logging.getLogger(__name__)


def evaluate(
    cfg: DictConfig,
    model: nn.Module,
    *,
    evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    report: ReportSource | None = None,
    in_training: bool = False,
    builders: type[LazyBuilders] = LazyBuilders,
) -> dict[str, Any]:
    """Evaluates the model on ``cfg.dataloader.test`` with ``cfg.dataloader.evaluator``, which is
    one evaluator or a list of evaluators of different tasks.

    Logs the metrics and writes them to ``<output_dir>/evaluation.json``, with null for a value that
    is not finite. All ranks must call it.

    Args:
        cfg: has ``dataloader`` and ``train``. With ``train.eval_streaming`` a model that supports
            it runs as a stream (see :class:`StreamingPredictor`).
        model: the model, on its device.
        evaluators: used instead of ``cfg.dataloader.evaluator``.
        report: source of config and weights, as named in ``report.html``, which is written if
            ``cfg.train.report`` enables it (see ``report.writer.write_report``); None: no report.
        in_training: whether the evaluation is part of a training. If not, as with ``--eval-only``,
            evaluators with ``official="auto"`` also compute the official metrics.
        builders: class that builds loader and evaluators, such as a trainer of one's own.

    Returns:
        metrics by task on rank 0; {} on the other ranks, or if ``cfg.dataloader.evaluator`` is
        null or an empty list.

    Raises:
        ValueError: the classes of the test data are not those of the model.
    """
    if evaluators is None and not cfg.dataloader.get("evaluator"):
        logger.warning("dataloader.evaluator is not set: the evaluation is skipped")
        return {}
    # Before the evaluators, which may look up the data set in the catalogs.
    loader = builders.build_test_loader(cfg)
    check_data_classes(model, loader)
    # Read before the model is wrapped: the wrapper does not have the attribute.
    grid = getattr(model, "grid", None)
    if cfg.train.get("eval_streaming", True) and can_stream(model):
        spacing = _frame_spacing(cfg.dataloader, _frame_dataset(loader), model.num_frames)
        model = StreamingPredictor(model, frame_spacing=spacing)
    evaluators = _as_list(builders.build_evaluator(cfg) if evaluators is None else evaluators)
    for each in evaluators:
        if getattr(each, "official", None) == "auto":
            each.official = not in_training
    timed_loader = TimedLoader(loader, ThreadDump(cfg.train.output_dir))
    results = inference_on_dataset(model, timed_loader, evaluators)
    if comm.is_main_process():
        print_csv_format(results)
        with atomic_write(os.path.join(cfg.train.output_dir, "evaluation.json")) as file:
            file.write(json.dumps(_null_non_finite(results), indent=2).encode())
        if report is not None:
            evaluated = Evaluated(results, evaluators, _frame_dataset(loader), grid)
            # A local import: the writer imports nuScenes' devkit, which takes a second.
            from fsdbev.report.writer import write_report

            write_report(cfg, report, evaluated)
    wait_for_rank0()
    return results


def _as_list(evaluators: DatasetEvaluator | Sequence[DatasetEvaluator]) -> list[DatasetEvaluator]:
    """Returns the evaluators of a single one, of a list (a config's is omegaconf's ListConfig, no
    list of Python) or of a ``DatasetEvaluators``."""
    if isinstance(evaluators, DatasetEvaluators):
        evaluators = evaluators._evaluators  # it has no public attribute
    return list(evaluators) if isinstance(evaluators, Sequence) else [evaluators]


def _frame_spacing(cfg: DictConfig, dataset: FrameDataset | None, num_frames: int) -> int:
    """Returns the largest number of samples from one frame of a sample to the next."""
    interval = cfg.get("frame_interval")
    if interval is None or dataset is None:
        return cfg.get("frame_spacing", 1)
    most = dataset.index.most_frames_back(num_frames, interval)
    return max(1, math.ceil(most / max(1, num_frames - 1)))


def check_data_classes(model: nn.Module, loader: Iterable) -> None:
    """Checks that a loader's data set of a frame index has the classes of the model.

    Raises:
        ValueError: it has others; the message lists both.
    """
    dataset, classes = _frame_dataset(loader), ModelSettings.of(model).classes
    if dataset is not None and classes is not None:
        classes.check_labels(
            dataset.classes,
            own="model.classes",
            others=f"the data set {dataset.name}",
            remedy="set model.classes to those of the data, or prepare the data with these classes",
        )


def _frame_dataset(loader: Iterable) -> FrameDataset | None:
    """Returns the loader's data set of a frame index, or None for a loader of other data."""
    dataset = getattr(loader, "dataset", None)
    return dataset.dataset if isinstance(dataset, MappedDataset) else None


def _null_non_finite(value: Any) -> Any:
    """Replaces values that are not finite by None: JSON has no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {key: _null_non_finite(item) for key, item in value.items()}
    number = float(value)
    return number if math.isfinite(number) else None
