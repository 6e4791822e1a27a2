"""What the main thread of this process is doing, for the watchdog to tell.

To say so costs about a microsecond, and does no harm where no watchdog runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, NamedTuple


class Activity(Enum):
    """A part of a job, in the order of an iteration.

    Attributes:
        text: how it is told.
        waits: it has collectives, where a rank waits for the others.
        slow: it may rightly take minutes.
    """

    STARTING = ("starting", True, True)
    LOADING = ("loading data", False, False)
    FORWARD = ("in the forward pass", False, False)
    BACKWARD = ("in the backward pass", True, False)
    EXCHANGING = ("exchanging losses", True, False)
    UPDATING = ("updating the weights", False, False)
    BETWEEN = ("between iterations", True, False)
    SAVING = ("saving a checkpoint", False, False)
    LOADING_TEST = ("loading data to evaluate on", False, False)
    EVALUATING = ("evaluating", False, False)
    SCORING = ("gathering and scoring an evaluation", True, True)
    REPORTING = ("writing a report", False, True)

    def __init__(self, text: str, waits: bool, slow: bool) -> None:
        self.text = text
        self.waits = waits
        self.slow = slow

    @property
    def place(self) -> int:
        """Of this in the order."""
        return list(Activity).index(self)


class Now(NamedTuple):
    """What is being done.

    Attributes:
        since: seconds of ``time.monotonic``.
        iteration: the last one that was begun; -1 before the first.
    """

    activity: Activity
    since: float
    iteration: int


_now = Now(Activity.STARTING, time.monotonic(), -1)


def doing(activity: Activity, iteration: int | None = None) -> None:
    """Says that the main thread now does this; call it again for every new piece of the work.

    Args:
        iteration: the one that begins; None: still the same.
    """
    global _now
    _now = Now(activity, time.monotonic(), _now.iteration if iteration is None else iteration)


def now() -> Now:
    """What was said last."""
    return _now


@contextmanager
def during(activity: Activity) -> Iterator[None]:
    """Says so at the start, and at the end that what was done before goes on. After an error it
    stays: the error belongs to it."""
    before = _now.activity
    doing(activity)
    yield
    doing(before)


class WatchedLoader:
    """A loader of an evaluation that says what is done with it."""

    def __init__(self, loader: Iterable) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        doing(Activity.LOADING_TEST)
        for batch in self._loader:
            doing(Activity.EVALUATING)
            yield batch
            doing(Activity.LOADING_TEST)
        doing(Activity.SCORING)
