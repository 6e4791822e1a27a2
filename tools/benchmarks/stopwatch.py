"""CPU time by stage."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock


class Stopwatch:
    """Adds up the CPU time of the process by stage, in ``milliseconds``."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.process_time()
        try:
            yield
        finally:
            self.milliseconds[stage] += 1e3 * (time.process_time() - begin)

    @contextmanager
    def around(self, methods: dict[str, tuple[type, str]]) -> Iterator[None]:
        """Within, every call of a method, given as its class and name, counts as that stage."""
        with ExitStack() as stack:
            for stage, (owner, name) in methods.items():
                timed = self._timed(stage, getattr(owner, name))
                stack.enter_context(mock.patch.object(owner, name, timed))
            yield

    def _timed(self, stage: str, method: Callable) -> Callable:
        @functools.wraps(method)
        def timed(*args, **kwargs):
            with self(stage):
                return method(*args, **kwargs)

        return timed
