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

from fsdbev.checkpoint import atomic_writer
from fsdbev.d2.config import instantiate
from fsdbev.d2.evaluation import inference_on_dataset, print_csv_format
from fsdbev.d2.utils import comm

from .streaming import StreamingPredictor, can_stream

logger = logging.getLogger(__name__)


def evaluate(cfg: DictConfig, model: nn.Module) -> dict[str, Any]:
    """Runs the model over ``cfg.dataloader.test`` into ``cfg.dataloader.evaluator``, as a stream if
    ``cfg.train.eval_streaming`` is set and the model can be streamed.

    Logs the metrics and writes them to ``<output_dir>/evaluation.json``, a number that is not
    finite as null. All ranks call it; only the first one gets the metrics, the others {}.
    """
    if cfg.dataloader.get("evaluator") is None:
        logger.warning("dataloader.evaluator is not set: nothing is evaluated")
        return {}
    loader = instantiate(cfg.dataloader.test)
    if cfg.train.get("eval_streaming", True) and can_stream(model):
        model = StreamingPredictor(model, frame_spacing=cfg.dataloader.get("frame_spacing", 1))
    results = inference_on_dataset(model, loader, instantiate(cfg.dataloader.evaluator))
    if comm.is_main_process():
        print_csv_format(results)
        with atomic_writer(os.path.join(cfg.train.output_dir, "evaluation.json")) as file:
            file.write(json.dumps(_finite(results), indent=2).encode())
    return results


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    number = float(value)
    return number if math.isfinite(number) else None
