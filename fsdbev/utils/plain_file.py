"""Reading of files with untrusted names: a folder, a pipe, a device or a file that is far too large
is an error. No call blocks. Names that are not UTF-8 are errors as well."""

from __future__ import annotations

import os
import stat
import sys
from typing import BinaryIO

#: Without this flag, opening a pipe blocks until another process writes to it. Windows has neither
#: the flag nor pipes in the file system.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


def check_file_names() -> None:
    """Checks that names of files are UTF-8, as they are in all files that contain them. A command
    calls it before its work.

    Raises:
        ValueError: the locale has another encoding, or the working directory or an argument of the
            command line has other bytes.
    """
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise ValueError(
            f"this locale's file names are {encoding}, but must be UTF-8; run it with PYTHONUTF8=1 "
            "in the environment"
        )
    for text in (os.getcwd(), *sys.argv):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{text!r}: is not UTF-8; rename the file or folder") from error


def open_file(path: str | os.PathLike, missing: str = "no such file") -> BinaryIO:
    """Opens a regular file for reading bytes.

    Args:
        path: path of the file.
        missing: error message for a missing file, after its path.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: ``open`` fails for another reason, e.g. PermissionError.
        ValueError: the path is a folder, a pipe or a device, or not a valid file name.
    """
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NONBLOCK))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: {missing}") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path}: is a folder, a file is needed") from error
    except ValueError as error:  # the path contains a NUL byte
        raise ValueError(f"{os.fspath(path)!r}: is not a valid file name ({error})") from error
    # Checked on the open file: a check of the path could see another file than the one opened.
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path}: is a pipe or a device, a file is needed")
    return file


def read_bytes(path: str | os.PathLike, max_bytes: int, missing: str = "no such file") -> bytes:
    """Reads a regular file.

    Args:
        path: path of the file.
        max_bytes: size limit in bytes.
        missing: error message for a missing file, after its path.

    Raises:
        FileNotFoundError, OSError, ValueError: see :func:`open_file`; ValueError also for a file of
            more than ``max_bytes``.
    """
    with open_file(path, missing) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(
                f"{path}: {size} bytes, far more than such a file has (at most {max_bytes}); is it "
                "the right file?"
            )
        return file.read()


def size_of(path: str | os.PathLike, missing: str = "no such file") -> int:
    """Returns the size of a regular file in bytes; raises the errors of :func:`open_file`."""
    with open_file(path, missing) as file:
        return os.fstat(file.fileno()).st_size
