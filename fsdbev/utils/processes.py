"""Processes: a call in a process of its own, stop signals, exit statuses."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Result = TypeVar("Result")

#: Ask for a stop; SIGUSR1 where the system has it.
STOP_SIGNALS = frozenset({signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)})
#: Exit status after a requested stop: everything is saved, the same command with ``--resume``
#: continues. The number is that of EX_TEMPFAIL in sysexits.h, "try again later".
PREEMPTED = 75
#: Exit status of a process that could not continue because another process of the job was killed,
#: stopped answering or ended with an error.
RANK_LOST = 76


def run_in_subprocess(function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Calls ``function`` in a process of its own and returns its result.

    For work that takes much memory in small pieces now and then: Python gives little of that back
    while a process lives. The process starts as torch starts a loader's workers: on Linux (before
    Python 3.14) as a fork, which imports nothing again and needs no guard in the main script. A
    daemonic process may start none: there the function is called in place.

    Raises:
        ChildProcessError: the process was killed.
        What ``function`` raises, with its traceback as the cause.
    """
    if multiprocessing.current_process().daemon:
        return function(*arguments, **options)
    with ProcessPoolExecutor(max_workers=1, initializer=init_process) as pool:
        worker = pool.submit(os.getpid).result()
        try:
            return pool.submit(function, *arguments, **options).result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"the process of {function.__qualname__} was killed, perhaps for want of memory"
            ) from error
        except BaseException:
            # The executor waits for work that has begun, but a signal may have told this process
            # to stop.
            os.kill(worker, signal.SIGKILL)
            raise


def init_process() -> None:
    """What a process does first that its parent started: leaves the signals that the parent
    handles to it, and ends when the parent does."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
