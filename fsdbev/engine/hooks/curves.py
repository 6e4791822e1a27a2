"""The curves of a training as a picture beside its ``metrics.json``."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping

import numpy as np
from PIL import Image

from fsdbev.d2.engine import HookBase
from fsdbev.utils.atomic_write import atomic_write
from fsdbev.visualization import Scalar, training_curves

logger = logging.getLogger(__name__)

METRICS_FILE, CURVES_FILE = "metrics.json", "curves.png"

#: Name -> value by iteration.
Record = dict[str, dict[int, float]]


class TrainingCurves(HookBase):
    """Draws ``curves.png`` in the output folder: when a training is resumed, after each evaluation
    and at the end, even of one that failed. It goes behind the writers.

    A picture that cannot be drawn is logged as an error; the training goes on.
    """

    def __init__(self, folder: str, eval_period: int) -> None:
        """
        Args:
            folder: has ``metrics.json``, that of earlier runs of this training as well.
            eval_period: iterations between evaluations; 0: there are none before the end.
        """
        self._folder = folder
        self._eval_period = eval_period

    def before_train(self) -> None:
        if self.trainer.start_iter > 0:
            self._draw()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if (
            self._eval_period > 0
            and done % self._eval_period == 0
            and done != self.trainer.max_iter
        ):
            self._draw()

    def after_train(self) -> None:
        self._draw()

    def _draw(self) -> None:
        try:
            record = read_metrics(os.path.join(self._folder, METRICS_FILE))
            # Metrics that the writers write later: their period need not be the evaluation's.
            for name, (value, iteration) in self.trainer.storage.latest().items():
                if "/" in name:
                    _add(record, name, value, iteration)
            draw_curves(record, self._folder)
        except Exception:
            logger.exception("The curves of %s could not be drawn", self._folder)


def read_metrics(path: str) -> Record:
    """Scalars of a ``metrics.json``; {} where there is no such file.

    A resumed training repeats iterations: the later line counts. A line that is not whole, the last
    of a run that was killed, is left out.
    """
    record: Record = {}
    if not os.path.isfile(path):
        return record
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
                continue
            iteration = values.pop("iteration")
            for name, value in values.items():
                _add(record, name, value, iteration)
    return record


def _add(record: Record, name: str, value: float, iteration: int) -> None:
    if math.isfinite(value):
        record.setdefault(name, {})[iteration] = value


def draw_curves(record: Mapping[str, Mapping[int, float]], folder: str) -> None:
    """Writes ``curves.png`` into the folder; nothing where nothing is recorded."""
    scalars = {name: _scalar(values) for name, values in record.items()}
    if not scalars:
        return
    title = os.path.basename(os.path.abspath(folder))
    picture = training_curves(scalars, f"Training curves: {title}")
    with atomic_write(os.path.join(folder, CURVES_FILE)) as file:
        Image.fromarray(picture).save(file, "PNG")


def _scalar(values: Mapping[int, float]) -> Scalar:
    iterations = sorted(values)
    return Scalar(np.array(iterations), np.array([values[i] for i in iterations]))
