"""Maps a function over the rows of an index in several processes.

If a worker raises an error or is killed, the map ends with an error. Workers end with their parent.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from fsdbev.utils.processes import init_process

Result = TypeVar("Result")
#: Wraps a loop in a progress display: (items, number of items, description) -> the same items.
Progress = Callable[[Iterable, int, str], Iterable]
#: Largest number of consecutive rows in a task. Neighbouring rows read the same sweeps, so that a
#: worker reads each sweep once per chunk.
_CHUNK = 16

# State of a worker process, set by _init_worker and by its first task.
_make_function: tuple[Callable, tuple]
_function: Callable[[int], Any] | None = None


def map_rows(
    start: Callable[..., Callable[[int], Result]], arguments: tuple, rows: int, workers: int
) -> Iterator[Result]:
    """Yields the results of all rows: in order without workers, as completed with workers.

    Args:
        start: called once per process with ``arguments``; returns the function of a row.
        arguments: arguments of ``start``; they are pickled for the workers.
        rows: number of rows.
        workers: number of processes; 0 computes the results in this process.

    Raises:
        ChildProcessError: a worker was killed.
        Exception: the first error of ``start`` or of a row; pending rows are cancelled.
    """
    if workers < 1:
        yield from map(start(*arguments), range(rows))
        return
    chunk = max(1, min(_CHUNK, -(-rows // workers)))
    # Spawned, not forked: the parent may have gigabytes of tables in memory.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _init_worker, (start, arguments))
    try:
        chunks = (range(first, min(first + chunk, rows)) for first in range(0, rows, chunk))
        for done in as_completed([pool.submit(_map_chunk, chunk) for chunk in chunks]):
            yield from done.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a worker process was killed, perhaps because memory ran out; run again to continue "
            "from here, with fewer --workers if memory is short"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _init_worker(start: Callable, arguments: tuple) -> None:
    global _make_function
    _make_function = (start, arguments)
    init_process()


def _map_chunk(rows: range) -> list:
    global _function
    # Not in the initializer of the pool: an exception there breaks the pool and does not reach the
    # parent.
    if _function is None:
        start, arguments = _make_function
        _function = start(*arguments)
    return [_function(row) for row in rows]


def no_progress(items: Iterable, total: int, what: str) -> Iterable:
    """Displays nothing; the default of functions that take a :data:`Progress`."""
    return items
