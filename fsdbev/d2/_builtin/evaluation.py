"""Built-in side of ``detectron2.evaluation``: the evaluation loop and its parts."""

from __future__ import annotations

import datetime
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from . import comm

logger = logging.getLogger(__name__)
_MESSAGE_INTERVAL = 5  # seconds


class DatasetEvaluator:
    """Sees all inputs and outputs of a data set and makes metrics of them."""

    def reset(self) -> None:
        """Prepares for a new round."""

    def process(self, inputs: Any, outputs: Any) -> None:
        """Takes one batch, as the loader and the model gave it."""

    def evaluate(self) -> dict | None:
        """Metrics ``{task: {metric: value}}`` of what was seen since the reset; None on the ranks
        that have none."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one; no two may give the same task."""

    def __init__(self, evaluators: Sequence[DatasetEvaluator]) -> None:
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> dict:
        results: dict = {}
        for evaluator in self._evaluators:
            result = evaluator.evaluate()
            if result is None or not comm.is_main_process():
                continue
            both = sorted(results.keys() & result.keys())
            if both:
                raise ValueError(f"more than one evaluator gives results for {both}")
            results.update(result)
        return results


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; then in its former mode again, after an error too."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


class _Progress:
    """Says now and then how far the loop is, how fast, and how long it will take.

    The first batches, which warm caches up, do not count for the speed.
    """

    def __init__(self, total: int, warmup: int = 5) -> None:
        self._total = total
        self._warmup = min(warmup, total - 1)
        self._start = time.perf_counter()
        self._last_message = -math.inf

    def done(self, count: int) -> None:
        """Call after every batch with the number of batches done."""
        now = time.perf_counter()
        if count <= self._warmup:
            self._start = now
        elif now - self._last_message >= _MESSAGE_INTERVAL:
            self._last_message = now
            pace = self._pace(count)
            left = datetime.timedelta(seconds=int(pace * (self._total - count)))
            message = "Inference done %d/%d. %.4f s/iter. ETA=%s"
            logger.info(message, count, self._total, pace, left)

    def summary(self) -> str:
        pace = self._pace(self._total)
        return f"{pace:.6f} s / iter per device, on {comm.get_world_size()} devices"

    def _pace(self, count: int) -> float:
        return (time.perf_counter() - self._start) / max(1, count - self._warmup)


@torch.no_grad()
def inference_on_dataset(
    model: Callable | nn.Module,
    data_loader: Iterable,
    evaluator: DatasetEvaluator | list[DatasetEvaluator] | None,
) -> dict:
    """Runs the model in eval mode, without gradients, over a loader that has a length.

    Returns the evaluator's results; {} where it has none. A list of evaluators works as one,
    None only times the model.
    """
    if evaluator is None or isinstance(evaluator, Sequence):
        evaluator = DatasetEvaluators(evaluator or [])
    total = len(data_loader)
    logger.info("Start inference on %d batches", total)
    evaluator.reset()
    progress = _Progress(total)
    with inference_context(model) if isinstance(model, nn.Module) else nullcontext():
        for count, inputs in enumerate(data_loader, start=1):
            evaluator.process(inputs, model(inputs))
            progress.done(count)
    logger.info("Total inference time: %s", progress.summary())
    return evaluator.evaluate() or {}


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Logs metrics as lines to copy into a spreadsheet, without those with a "-" (per class)."""
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info("copypaste: %s=%s", task, metrics)
            continue
        chosen = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(chosen))
        logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in chosen.values()))
