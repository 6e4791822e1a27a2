"""Work on the rows of an index by several processes.

An error in one of them, or its death, ends the work with an error; none outlives its parent.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from fsdbev.utils.processes import init_process

Result = TypeVar("Result")
#: Consecutive rows that a worker takes at once, at most, so that neighbours share sweeps.
_CHUNK = 16


_start: tuple[Callable, tuple]
_row_worker: Callable[[int], Any] | None = None
#: Shows how far a loop is: (its items, how many, what is done) -> the same items.
Progress = Callable[[Iterable, int, str], Iterable]


def map_rows(
    start: Callable[..., Callable[[int], Result]], arguments: tuple, rows: int, workers: int
) -> Iterator[Result]:
    """Results of all rows: in order without workers, as they are done with them.

    Args:
        start: called with ``arguments`` in every process, gives what works on a row.
        rows: how many.
        workers: processes; 0 works in this one.

    Raises:
        ChildProcessError: a worker was killed.
        What work on a row raises; other rows are then given up.
    """
    if workers < 1:
        yield from map(start(*arguments), range(rows))
        return
    chunk = max(1, min(_CHUNK, -(-rows // workers)))
    # Spawned, not forked: the parent may hold gigabytes of tables.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (start, arguments))
    try:
        chunks = (range(first, min(first + chunk, rows)) for first in range(0, rows, chunk))
        for done in as_completed([pool.submit(_work, chunk) for chunk in chunks]):
            yield from done.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a worker process was killed, perhaps for want of memory; run again to go on from "
            "here, with fewer --workers if memory is short"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(start: Callable, arguments: tuple) -> None:
    global _start
    _start = (start, arguments)
    init_process()


def _work(rows: range) -> list:
    global _row_worker
    if _row_worker is None:  # here, because what it raises reaches the parent from here only
        start, arguments = _start
        _row_worker = start(*arguments)
    return [_row_worker(row) for row in rows]


def no_progress(items: Iterable, total: int, what: str) -> Iterable:
    """Shows nothing."""
    return items
