"""Evaluating a model by what a config says."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from torch import nn
from torch.utils.data import DataLoader

from fsdbev.d2.config import instantiate
from fsdbev.d2.evaluation import inference_on_dataset, print_csv_format
from fsdbev.d2.utils import comm
from fsdbev.data.build import MappedDataset
from fsdbev.data.dataset import FrameDataset
from fsdbev.inference.streaming import StreamingPredictor, can_stream
from fsdbev.report import Evaluated, ReportSource
from fsdbev.utils.atomic_write import atomic_write

from .distributed import ThreadDump, TimedLoader, wait_for_rank0

logger = logging.getLogger(__name__)


def evaluate(
    cfg: DictConfig,
    model: nn.Module,
    *,
    report: ReportSource | None = None,
    in_training: bool = False,
) -> dict[str, Any]:
    """Runs the model over ``cfg.dataloader.test`` into ``cfg.dataloader.evaluator``, as a stream if
    ``cfg.train.eval_streaming`` is set and the model can be streamed.

    Logs the metrics and writes them to ``<output_dir>/evaluation.json``, a number that is not
    finite as null. All ranks call it; only the first one gets the metrics, the others {}.

    Args:
        report: what ``report.html`` names as the source of config and weights, which is then
            written if ``cfg.train.report`` asks for it (see ``report.write_report``); None: no
            report.
        in_training: false where the evaluation stands alone, as with ``--eval-only``: an evaluator
            with ``official="auto"`` then computes the official metrics too.
    """
    if cfg.dataloader.get("evaluator") is None:
        logger.warning("dataloader.evaluator is not set: nothing is evaluated")
        return {}
    loader = instantiate(cfg.dataloader.test)
    grid = getattr(model, "grid", None)
    if cfg.train.get("eval_streaming", True) and can_stream(model):
        model = StreamingPredictor(model, frame_spacing=cfg.dataloader.get("frame_spacing", 1))
    evaluator = instantiate(cfg.dataloader.evaluator)
    evaluators = evaluator if isinstance(evaluator, list) else [evaluator]
    for each in evaluators:
        if getattr(each, "official", None) == "auto":
            each.official = not in_training
    timed = TimedLoader(loader, ThreadDump(cfg.train.output_dir))
    results = inference_on_dataset(model, timed, evaluator)
    if comm.is_main_process():
        print_csv_format(results)
        with atomic_write(os.path.join(cfg.train.output_dir, "evaluation.json")) as file:
            file.write(json.dumps(_finite(results), indent=2).encode())
        if report is not None:
            evaluated = Evaluated(results, evaluators, _frames_of(loader), grid)
            from fsdbev.report.writer import write_report  # imports the devkit

            write_report(cfg, report, evaluated)
    wait_for_rank0()
    return results


def _frames_of(loader: DataLoader) -> FrameDataset | None:
    """What the loader reads, where that is a frame index."""
    dataset = getattr(loader, "dataset", None)
    return dataset.dataset if isinstance(dataset, MappedDataset) else None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    number = float(value)
    return number if math.isfinite(number) else None
