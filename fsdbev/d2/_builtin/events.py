"""Built-in side of ``detectron2.utils.events``: scalars of a run and writers that report them."""

from __future__ import annotations

import datetime
import json
import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import takewhile
from typing import Any

import torch
from fvcore.common.history_buffer import HistoryBuffer

_open_storages: list[EventStorage] = []


def get_event_storage() -> EventStorage:
    """The storage of the innermost ``with EventStorage(...)``."""
    if not _open_storages:
        raise AssertionError("get_event_storage() works only inside `with EventStorage(...)`")
    return _open_storages[-1]


def has_event_storage() -> bool:
    return bool(_open_storages)


class EventStorage:
    """Named scalars, each with the iteration it belongs to."""

    def __init__(self, start_iter: int = 0) -> None:
        self.iter = start_iter
        self._prefix = ""
        self._histories: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._latest: dict[str, tuple[float, int]] = {}
        self._smoothing_hints: dict[str, bool] = {}

    def put_scalar(
        self, name: str, value: Any, smoothing_hint: bool = True, cur_iter: int | None = None
    ) -> None:
        """Stores ``float(value)`` for the current iteration, or for ``cur_iter``.

        Args:
            smoothing_hint: whether writers should show a median over iterations; it stays the
                same for a name.
        """
        name, value = self._prefix + name, float(value)
        iteration = self.iter if cur_iter is None else cur_iter
        if self._smoothing_hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise AssertionError(f"scalar {name!r} was put with another smoothing_hint before")
        self._histories[name].update(value, iteration)
        self._latest[name] = (value, iteration)

    def put_scalars(
        self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **scalars: Any
    ) -> None:
        """``put_scalar`` of every keyword argument."""
        for name, value in scalars.items():
            self.put_scalar(name, value, smoothing_hint, cur_iter)

    def history(self, name: str) -> HistoryBuffer:
        """All values of one scalar; KeyError if there is none."""
        if name not in self._histories:
            raise KeyError(f"no scalar {name!r} was stored")
        return self._histories[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        return self._histories

    def latest(self) -> dict[str, tuple[float, int]]:
        """Last value of every scalar and the iteration it belongs to."""
        return self._latest

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """As ``latest``, scalars to be smoothed as the median over ``window_size`` iterations."""
        return {
            name: (_median(self, name, window_size) if self._smoothing_hints[name] else value, at)
            for name, (value, at) in self._latest.items()
        }

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """How many values of the scalar fall into its last ``window_size`` iterations."""
        values = self.history(name).values()
        before = values[-1][1] - window_size
        return sum(1 for _ in takewhile(lambda sample: sample[1] > before, reversed(values)))

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Scalars put inside are stored as ``name/...``."""
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
    """Median of a scalar over its last ``window_size`` iterations."""
    return storage.history(name).median(storage.count_samples(name, window_size))


class EventWriter(ABC):
    """Takes what is new in the current ``EventStorage`` somewhere."""

    @abstractmethod
    def write(self) -> None:
        """Called periodically, inside the storage's ``with``."""

    def close(self) -> None:  # noqa: B027  a writer without resources has nothing to do
        """Called once, at the end of training."""


class JSONWriter(EventWriter):
    """Appends one JSON object a line: an iteration's new scalars and ``iteration`` itself."""

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self._file = open(json_file, "a")
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
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
    """Writes scalars to a TensorBoard event file; needs the ``tensorboard`` package."""

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any) -> None:
        self._arguments = {"log_dir": log_dir, **kwargs}
        self._window_size = window_size
        self._last_write = -1

    @cached_property
    def _writer(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(**self._arguments)

    def write(self) -> None:
        latest = get_event_storage().latest_with_smoothing_hint(self._window_size)
        new = {n: (v, at) for n, (v, at) in latest.items() if at > self._last_write}
        for name, (value, iteration) in new.items():
            self._writer.add_scalar(name, value, iteration)
        self._last_write = max([self._last_write, *(at for _, at in new.values())])

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs time left, losses, speed, learning rate and GPU memory as one line."""

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self._max_iter = max_iter
        self._window_size = window_size
        self._logger = logging.getLogger(__name__)

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:  # training has ended, nothing new to tell
            return
        known = storage.histories()
        parts = [f"iter: {storage.iter}"]
        if self._max_iter is not None and "time" in known:
            seconds = known["time"].median(1000) * (self._max_iter - storage.iter - 1)
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            parts.insert(0, f"eta: {datetime.timedelta(seconds=int(seconds))}")
        for name in list(known):
            if "loss" in name or "[metric]" in name:
                parts.append(f"{name}: {_median(storage, name, self._window_size):.4g}")
        for name in ("time", "data_time"):
            if name in known:
                parts.append(f"{name}: {known[name].avg(self._window_size):.4f}")
        if "lr" in known:
            parts.append(f"lr: {known['lr'].latest():.5g}")
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        self._logger.info("  ".join(parts))
