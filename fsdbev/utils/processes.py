"""Calls in a separate process, stop signals and exit statuses."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

#: Signals that request a stop; SIGUSR1 does not exist on all systems.
STOP_SIGNALS = frozenset({signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM)})
#: Exit status after a requested stop with a saved checkpoint; the same command with ``--resume``
#: continues. The value is EX_TEMPFAIL of sysexits.h, "try again later".
PREEMPTED = 75
#: Exit status of a process that cannot continue because another process of the job was killed, does
#: not respond or failed.
RANK_LOST = 76


def run_in_subprocess(function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Calls ``function`` in a separate process and returns its result.

    This is useful for occasional work that allocates much memory in small objects, most of which
    Python does not return to the system before the process ends. The process starts in the same way
    as the workers of a torch loader: on Linux before Python 3.14 as a fork, which imports nothing
    again and needs no guard in the main script.

    Args:
        function: function to call; it, its arguments and its result are pickled.
        arguments: positional arguments.
        options: keyword arguments.

    Raises:
        ChildProcessError: the process was killed.
        Exception: any error of ``function``, with the traceback of the process as its cause.
    """
    # A daemonic process, such as a loader's worker, must not have child processes.
    if multiprocessing.current_process().daemon:
        return function(*arguments, **options)
    with ProcessPoolExecutor(max_workers=1, initializer=init_process) as pool:
        worker = pool.submit(os.getpid).result()
        try:
            return pool.submit(function, *arguments, **options).result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"the process of {function.__qualname__} was killed, perhaps because memory ran out"
            ) from error
        except BaseException:
            # Leaving the block waits for the running call, but this error may be a stop signal's.
            os.kill(worker, signal.SIGKILL)
            raise


def init_process() -> None:
    """Initializes a child process, which ignores the signals that its parent handles, ends with its
    parent and computes in one thread."""
    # As in the workers of a torch loader: a fork has no copy of the parent's OpenMP threads and
    # would wait for them forever.
    torch.set_num_threads(1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # SystemExit would end only this thread.
    multiprocessing.parent_process().join()
    os._exit(1)
