"""Built-in ``detectron2.evaluation``: the evaluation loop and its parts."""

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
    """Base class of evaluators: processes pairs of inputs and outputs and computes metrics."""

    def reset(self) -> None:
        """Prepares for a new evaluation."""

    def process(self, inputs: Any, outputs: Any) -> None:
        """Processes a batch of the loader and the model's outputs for it."""

    def evaluate(self) -> dict | None:
        """Returns metrics ``{task: {metric: value}}`` of all batches since ``reset``, or None.

        Usually all ranks but the first return None.
        """


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one.

    Raises:
        ValueError: by ``evaluate``, if two evaluators return results for the same task.
    """

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
            duplicates = sorted(results.keys() & result.keys())
            if duplicates:
                raise ValueError(f"more than one evaluator returns results for {duplicates}")
            results.update(result)
        return results


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Sets the model to eval mode, and back to its former mode at the end or after an error."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


class _Progress:
    """Progress log of the evaluation loop: batches done, seconds per batch, remaining time.

    The speed excludes the first ``warmup`` batches, as in Detectron2: they include start-up costs.
    """

    def __init__(self, total: int, warmup: int = 5) -> None:
        self._total = total
        # At least one batch is measured.
        self._warmup = min(warmup, total - 1)
        self._start = time.perf_counter()
        self._last_message = -math.inf

    def done(self, count: int) -> None:
        """Logs the progress after ``count`` batches, unless the last message is recent."""
        now = time.perf_counter()
        if count <= self._warmup:
            self._start = now
        elif now - self._last_message >= _MESSAGE_INTERVAL:
            self._last_message = now
            seconds = self._seconds_per_batch(count)
            eta = datetime.timedelta(seconds=int(seconds * (self._total - count)))
            message = "Inference done %d/%d. %.4f s/iter. ETA=%s"
            logger.info(message, count, self._total, seconds, eta)

    def summary(self) -> str:
        """Returns the speed over all batches as text."""
        seconds = self._seconds_per_batch(self._total)
        return f"{seconds:.6f} s / iter per device, on {comm.get_world_size()} devices"

    def _seconds_per_batch(self, count: int) -> float:
        return (time.perf_counter() - self._start) / max(1, count - self._warmup)


@torch.no_grad()
def inference_on_dataset(
    model: Callable | nn.Module,
    data_loader: Iterable,
    evaluator: DatasetEvaluator | list[DatasetEvaluator] | None,
    callbacks: Mapping[str, Callable[[], None]] | None = None,
) -> dict:
    """Runs the model over a data loader in eval mode, without gradients, and evaluates the outputs.

    Args:
        model: module, or any callable, that maps a batch to outputs.
        data_loader: iterable of batches with a length.
        evaluator: one evaluator or a list of them; None only measures the speed.
        callbacks: functions that are called ``on_start``, ``before_inference`` and
            ``after_inference`` of every batch, and ``on_end``; any of the four.

    Returns:
        The results of the evaluator; {} if it returns None.
    """
    if evaluator is None or isinstance(evaluator, Sequence):
        evaluator = DatasetEvaluators(evaluator or [])
    total = len(data_loader)
    logger.info("Start inference on %d batches", total)
    evaluator.reset()
    progress = _Progress(total)

    def call(stage: str) -> None:
        (callbacks or {}).get(stage, lambda: None)()

    with inference_context(model) if isinstance(model, nn.Module) else nullcontext():
        call("on_start")
        for count, inputs in enumerate(data_loader, start=1):
            call("before_inference")
            outputs = model(inputs)
            call("after_inference")
            evaluator.process(inputs, outputs)
            progress.done(count)
        call("on_end")
    logger.info("Total inference time: %s", progress.summary())
    # As in Detectron2: callers need not handle the None of ranks other than the first.
    return evaluator.evaluate() or {}


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Logs metrics as lines that can be pasted into a spreadsheet."""
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info("copypaste: %s=%s", task, metrics)
            continue
        # As in Detectron2, names with a "-" are metrics of one class and left out.
        chosen = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(chosen))
        logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in chosen.values()))
