"""Reading files whose names come from elsewhere: a folder, a pipe or a device is an error, never a
wait without end, and what is far too large is not read."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

#: Without it, opening a pipe that nobody writes to waits. Windows has neither.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


def open_file(path: str | os.PathLike, missing: str = "no such file") -> BinaryIO:
    """Opens a plain file to read its bytes.

    Args:
        missing: what the error of a missing file says.

    Raises:
        FileNotFoundError, PermissionError, OSError: as ``open`` does; the message names the file.
        ValueError: it is a folder, a pipe or a device.
    """
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NO_WAIT))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: {missing}") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path}: is a folder, a file is needed") from error
    except ValueError as error:  # a NUL byte
        raise ValueError(f"{os.fspath(path)!r}: is no file name ({error})") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path}: is a pipe or a device, a file is needed")
    return file


def read_bytes(path: str | os.PathLike, max_bytes: int, missing: str = "no such file") -> bytes:
    """Content of a plain file.

    Raises:
        As :func:`open_file`, and ValueError: it has more than ``max_bytes``.
    """
    with open_file(path, missing) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(
                f"{path}: {size} bytes, far more than such a file has (at most {max_bytes}); is it "
                "the right one?"
            )
        return file.read()


def size_of(path: str | os.PathLike, missing: str = "no such file") -> int:
    """Bytes of a plain file; raises as :func:`open_file` does."""
    with open_file(path, missing) as file:
        return os.fstat(file.fileno()).st_size
