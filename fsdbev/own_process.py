"""Work in processes that Python starts: ends with its parent, and tells its errors to it."""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.pool import RemoteTraceback
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def in_own_process(function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """What ``function`` returns, called in a process of its own.

    For what takes much memory in small pieces now and then: Python gives little of that back while
    a process lives. It is started as torch starts a loader's workers: as a copy of this process on
    Linux (before Python 3.14), where nothing is passed on or imported again; else as a new one,
    and then function, arguments and result are pickled. A daemonic process may start none: there it
    is called in place.

    Raises:
        ChildProcessError: the process was killed.
        What ``function`` raises, with its traceback as the cause.
    """
    call = partial(function, *arguments, **options)
    if multiprocessing.current_process().daemon:
        return call()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=_answer, args=(sender, call), daemon=True)
    process.start()
    try:
        sender.close()  # so that the process's end closes the pipe
        succeeded, answer = receiver.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(
            f"the process of {getattr(function, '__qualname__', function)} was ended, status "
            f"{process.exitcode} (-9: often for want of memory)"
        ) from None
    finally:
        process.kill()  # here nothing may wait for it: this process may have been told to stop
        process.join()
        receiver.close()
    if succeeded:
        return answer
    error, where = answer
    raise error from RemoteTraceback(where)


def begin_process() -> None:
    """What a process does first that its parent started: leaves the signals that the parent
    handles to it, and ends when the parent does."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _answer(sender: Connection, call: Callable[[], Any]) -> None:
    begin_process()
    torch.set_num_threads(1)  # a copied process has not the threads that OpenMP believes to have
    try:
        sender.send((True, call()))
    except Exception as error:
        where = traceback.format_exc()
        try:
            sender.send((False, (copy.copy(error), where)))  # fails as unpickling would
        except Exception:
            sender.send((False, (RuntimeError(f"{type(error).__name__}: {error}"), where)))
