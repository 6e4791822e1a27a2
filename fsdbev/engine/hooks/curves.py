"""Hook that draws the curves of a training next to its ``metrics.json``."""

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

#: Name of a scalar -> iteration -> value.
Record = dict[str, dict[int, float]]


class TrainingCurves(HookBase):
    """Hook that draws ``curves.png`` in the output folder when a training is resumed, after each
    evaluation and at the end, also after an error. It must follow the writers.

    An error while drawing is logged and does not stop the training.
    """

    def __init__(self, folder: str, eval_period: int) -> None:
        """
        Args:
            folder: output folder with ``metrics.json``, to which resumed runs append.
            eval_period: iterations between evaluations; 0: only one, at the end.
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
            # The writers have a period of their own, so the metrics of this evaluation (with "/" in
            # their names) may not be in the file yet.
            for name, (value, iteration) in self.trainer.storage.latest().items():
                if "/" in name:
                    _add_scalar(record, name, value, iteration)
            draw_curves(record, self._folder)
        except Exception:  # a broken picture is no reason to lose a training
            logger.exception("The curves of %s could not be drawn", self._folder)


def read_metrics(path: str) -> Record:
    """Reads the scalars of a ``metrics.json``; returns {} if there is no such file.

    A resumed training may repeat iterations, of which the later line is used. Lines that a killed
    run left incomplete are skipped.

    Args:
        path: file with one JSON object per line.

    Returns:
        name -> iteration -> value, without values that are not finite.
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
                _add_scalar(record, name, value, iteration)
    return record


def _add_scalar(record: Record, name: str, value: float, iteration: int) -> None:
    if math.isfinite(value):
        record.setdefault(name, {})[iteration] = value


def draw_curves(record: Mapping[str, Mapping[int, float]], folder: str) -> None:
    """Draws the scalars into ``<folder>/curves.png``; writes no file for an empty record.

    Args:
        record: name -> iteration -> value.
        folder: output folder; its name becomes the title.

    Raises:
        OSError: the file cannot be written.
    """
    scalars = {name: _to_scalar(values) for name, values in record.items()}
    if not scalars:
        return
    title = os.path.basename(os.path.abspath(folder))
    picture = training_curves(scalars, f"Training curves: {title}")
    with atomic_write(os.path.join(folder, CURVES_FILE)) as file:
        Image.fromarray(picture).save(file, "PNG")


def _to_scalar(values: Mapping[int, float]) -> Scalar:
    iterations = sorted(values)
    return Scalar(np.array(iterations), np.array([values[i] for i in iterations]))
