"""Built-in ``detectron2.utils.events``: scalars of a training and writers that report them."""

from __future__ import annotations

import datetime
import json
import logging
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from fvcore.common.history_buffer import HistoryBuffer

_open_storages: list[EventStorage] = []


def get_event_storage() -> EventStorage:
    """Returns the storage of the innermost ``with EventStorage(...)``.

    Raises:
        AssertionError: outside of every such block.
    """
    if not _open_storages:
        raise AssertionError("get_event_storage() works only inside `with EventStorage(...)`")
    return _open_storages[-1]


def has_event_storage() -> bool:
    """Returns whether the code runs inside ``with EventStorage(...)``."""
    return bool(_open_storages)


class EventStorage:
    """Histories of named scalars with their iterations; images and histograms until written.

    Args:
        start_iter: iteration of the first scalars.

    Attributes:
        iter: current iteration, to which new values belong; the trainer sets it, or ``step``.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self.iter = start_iter
        self._prefix = ""
        # Writers of users read these two, which have Detectron2's names and contents.
        self._vis_data: list[tuple[str, Any, int]] = []
        self._histograms: list[dict[str, Any]] = []
        self._histories: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._latest: dict[str, tuple[float, int]] = {}
        self._smoothing_hints: dict[str, bool] = {}

    @property
    def iter(self) -> int:
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @property
    def iteration(self) -> int:
        """Older name of ``iter``."""
        return self._iter

    def step(self) -> None:
        """Increments ``iter``, in a loop without a trainer."""
        self._iter += 1

    def put_scalar(
        self, name: str, value: Any, smoothing_hint: bool = True, cur_iter: int | None = None
    ) -> None:
        """Stores ``float(value)``.

        Args:
            name: name of the scalar; ``name_scope`` adds a prefix.
            value: number or tensor with one element.
            smoothing_hint: whether writers report a median over iterations; must be the same at
                every call for a name.
            cur_iter: iteration of the value; by default the current one.
        """
        name, value = self._prefix + name, float(value)
        iteration = self.iter if cur_iter is None else cur_iter
        if self._smoothing_hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise AssertionError(f"scalar {name!r} was stored with another smoothing_hint before")
        self._histories[name].update(value, iteration)
        self._latest[name] = (value, iteration)

    def put_scalars(
        self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **scalars: Any
    ) -> None:
        """Calls ``put_scalar`` for every keyword argument."""
        for name, value in scalars.items():
            self.put_scalar(name, value, smoothing_hint, cur_iter)

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Stores an image until ``TensorboardXWriter`` writes it.

        Args:
            img_name: name of the image; ``name_scope`` adds no prefix, as in Detectron2.
            img_tensor: (3, H, W) RGB image, tensor or array: floats in [0, 1] or uint8.
        """
        self._vis_data.append((img_name, img_tensor, self.iter))

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Stores the histogram of a tensor until ``TensorboardXWriter`` writes it.

        Args:
            hist_name: name of the histogram; ``name_scope`` adds no prefix, as in Detectron2.
            hist_tensor: values, of any shape.
            bins: number of bins between the smallest and the largest value.
        """
        values = hist_tensor.detach().double().flatten().cpu().numpy()
        counts, edges = np.histogram(values, bins)
        self._histograms.append(  # arguments of SummaryWriter.add_histogram_raw
            {
                "tag": hist_name,
                "min": values.min(),
                "max": values.max(),
                "num": len(values),
                "sum": values.sum(),
                "sum_squares": values @ values,
                "bucket_limits": edges[1:].tolist(),
                "bucket_counts": counts.tolist(),
                "global_step": self.iter,
            }
        )

    def clear_images(self) -> None:
        """Removes the stored images; called by the writer that has written them."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Removes the stored histograms; called by the writer that has written them."""
        self._histograms = []

    def history(self, name: str) -> HistoryBuffer:
        """Returns the history of a scalar.

        Raises:
            KeyError: if no value of it was stored.
        """
        if name not in self._histories:  # the defaultdict would create an empty one
            raise KeyError(f"no scalar {name!r} was stored")
        return self._histories[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """Returns the histories of all scalars by name."""
        return self._histories

    def latest(self) -> dict[str, tuple[float, int]]:
        """Returns the last value of every scalar and its iteration."""
        return self._latest

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Returns the same as ``latest``, but medians of the scalars with a smoothing hint.

        Args:
            window_size: length of the median's window in iterations.
        """
        return {
            name: (_median(self, name, window_size) if self._smoothing_hints[name] else value, at)
            for name, (value, at) in self._latest.items()
        }

    def smoothing_hints(self) -> dict[str, bool]:
        """Returns the ``smoothing_hint`` of every scalar by name."""
        return self._smoothing_hints

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Returns the number of values of a scalar in its last ``window_size`` iterations."""
        values = self.history(name).values()
        first = values[-1][1] - window_size + 1
        count = 0
        for _, iteration in reversed(values):
            if iteration < first:
                break
            count += 1
        return count

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Adds the prefix ``name/`` to the scalars that are stored inside the block."""
        outer, self._prefix = self._prefix, name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._prefix = outer

    def __enter__(self) -> EventStorage:
        _open_storages.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _open_storages.pop()


def _median(storage: EventStorage, name: str, window_size: int) -> float:
    """Returns the median of a scalar over its last ``window_size`` iterations."""
    return storage.history(name).median(storage.count_samples(name, window_size))


class EventWriter(ABC):
    """Base class of writers, which report the new values of the current ``EventStorage``."""

    @abstractmethod
    def write(self) -> None:
        """Reports new values; called periodically, inside ``with EventStorage(...)``."""

    def close(self) -> None:  # noqa: B027  a writer without resources has nothing to do
        """Releases resources; called once, at the end of the training."""


class JSONWriter(EventWriter):
    """Writer that appends lines of JSON: the new scalars of an iteration and ``iteration`` itself.

    Args:
        json_file: path; lines are appended to an existing file.
        window_size: window of the medians, in iterations.
    """

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self._file = open(json_file, "a")
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        # New scalars can be of several iterations, such as metrics and losses: one line for each.
        lines: dict[int, dict[str, float]] = defaultdict(dict)
        latest = get_event_storage().latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in latest.items():
            if iteration > self._last_write:
                lines[iteration][name] = value
        for iteration, scalars in lines.items():
            self._file.write(json.dumps({**scalars, "iteration": iteration}, sort_keys=True) + "\n")
        self._file.flush()
        self._last_write = max([self._last_write, *lines])

    def close(self) -> None:
        self._file.close()


class TensorboardXWriter(EventWriter):
    """Writer of a TensorBoard event file; needs the package ``tensorboard``.

    It also writes the images and histograms of the storage and removes them from there.

    Args:
        log_dir: folder of the event file.
        window_size: window of the medians, in iterations.
        kwargs: further arguments of ``torch.utils.tensorboard.SummaryWriter``.
    """

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any) -> None:
        self._arguments = {"log_dir": log_dir, **kwargs}
        self._window_size = window_size
        self._last_write = -1

    @cached_property
    def _writer(self) -> Any:
        # Created at the first write: the import is slow, and a run without writes leaves no file.
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(**self._arguments)

    def write(self) -> None:
        storage = get_event_storage()
        latest = storage.latest_with_smoothing_hint(self._window_size)
        new = {n: (v, at) for n, (v, at) in latest.items() if at > self._last_write}
        for name, (value, iteration) in new.items():
            self._writer.add_scalar(name, value, iteration)
        self._last_write = max([self._last_write, *(at for _, at in new.values())])
        for image in storage._vis_data:
            self._writer.add_image(*image)
        storage.clear_images()
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_histograms()

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Writer of a log line with remaining time, losses, speed, learning rate and GPU memory.

    Args:
        max_iter: last iteration of the training; without it no remaining time is logged.
        window_size: window of the medians, in iterations.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self._max_iter = max_iter
        self._window_size = window_size
        self.logger = logging.getLogger(__name__)
        self._last_write: tuple[int, float] | None = None  # iteration, time (s)

    def write(self) -> None:
        storage = get_event_storage()
        # As in Detectron2, the call after the last iteration logs nothing: it is no progress.
        if storage.iter == self._max_iter:
            return
        histories = storage.histories()
        parts = [f"iter: {storage.iter}"]
        if self._max_iter is not None and (speed := self._seconds_per_iteration(storage)):
            seconds = speed * (self._max_iter - storage.iter - 1)
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            parts.insert(0, f"eta: {datetime.timedelta(seconds=int(seconds))}")
        for name in histories:
            if "loss" in name or "[metric]" in name:
                parts.append(f"{name}: {_median(storage, name, self._window_size):.4g}")
        for name in ("time", "data_time"):
            if name in histories:
                parts.append(f"{name}: {histories[name].avg(self._window_size):.4f}")
        if "lr" in histories:
            parts.append(f"lr: {histories['lr'].latest():.5g}")
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        self.logger.info("  ".join(parts))

    def _seconds_per_iteration(self, storage: EventStorage) -> float | None:
        """Returns the duration of an iteration, or None before it is known."""
        if "time" in storage.histories():
            # As in Detectron2, a median over many iterations, which single slow ones do not change.
            return storage.history("time").median(1000)
        # Without IterationTimer: the mean since the previous line.
        last, self._last_write = self._last_write, (storage.iter, time.perf_counter())
        if last is None or last[0] == storage.iter:
            return None
        return (self._last_write[1] - last[1]) / (storage.iter - last[0])
