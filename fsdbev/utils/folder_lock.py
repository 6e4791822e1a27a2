"""Lock of an output folder: one process or job at a time writes there."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

#: The locked file, which contains the process with the lock.
LOCK = ".fsdbev.lock"
#: Errors of file systems without locks. The process continues there: files appear atomically, so a
#: concurrent one costs time or ends with an error, but leaves no damaged file.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def locked_folder(folder: str | os.PathLike, remedy: str) -> Iterator[None]:
    """Creates a folder and locks it against other processes.

    The system releases the lock of a process that dies. A job of several processes takes the lock
    once, in its first process.

    Args:
        folder: folder to lock.
        remedy: how to choose another folder, for the error messages.

    Raises:
        BlockingIOError: another process holds the lock; the message has its id and host.
        PermissionError: the folder or its lock can't be written.
    """
    folder = Path(folder)
    file = folder / LOCK
    lock = FileLock(file, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    except Timeout as error:
        raise BlockingIOError(
            f"{folder}: {_holder(file)} is writing there; wait for it, or stop it and run "
            f"again, or {remedy}"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise PermissionError(
                f"{folder}: can't be written ({error.strerror}); {remedy}"
            ) from error
        text = "%s: the file system has no file locks (%s); start only one run at a time"
        logger.warning(text, folder, error)
    try:
        yield
    finally:
        # filelock removes the file itself on Windows only. It is removed before the release: after
        # the release it may be the lock of another run.
        if os.name == "posix":
            file.unlink(missing_ok=True)
        lock.release()


def _holder(file: Path) -> str:
    """Returns the process with the lock."""
    try:
        return file.read_text(encoding="utf-8") or "another process"
    except OSError:  # the process has just taken the lock or released it
        return "another process"
