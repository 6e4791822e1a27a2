"""Atomic writing: a file or folder appears complete under its name, or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

#: Ending of unfinished files and folders, and the length of the random number before it.
UNFINISHED, _DIGITS = ".tmp", 8
#: Errors of systems that cannot flush a folder, such as some network file systems.
_NO_FOLDER_FLUSH = (errno.EINVAL, errno.ENOTSUP)


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A new path beside ``path``; the file or folder that the block writes there replaces ``path``
    when the block ends without error.

    It is hidden, has a name of its own, and is removed if there is an error. Its content is on the
    disk before the rename, and the rename before the function returns. The parent folder is made
    when missing. A folder that stands at ``path`` is removed after the rename.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(_DIGITS // 2)}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_content(temporary)
        _replace(temporary, path)
        _flush_folder(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file that replaces ``path`` when the block ends without error; see
    :func:`atomic_path`.

    Raises:
        OSError: of the kind and number of the first error. It names ``path``.
    """
    try:
        with atomic_path(path) as temporary, open(temporary, "xb") as file:
            yield file
    except OSError as error:
        raise _naming(Path(path), error) from error


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """A new folder that replaces ``path`` when the block ends without error; see
    :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.mkdir()
        yield temporary


def leftovers(folder: str | os.PathLike, names: str) -> list[Path]:
    """Unfinished files and folders whose final names match the pattern ``names``: being written, or
    left by a process that was killed."""
    return sorted(Path(folder).glob(f".{names}.{_DIGITS * '[0-9a-f]'}{UNFINISHED}"))


def _naming(path: Path, error: OSError) -> OSError:
    kind = type(error) if type(error).__module__ == "builtins" else OSError
    named = kind(f"{path}: can't be written ({error}); is the disk full?")
    named.errno = error.errno
    return named


def _replace(source: Path, path: Path) -> None:
    if not (source.is_dir() and path.exists()):
        os.replace(source, path)
        return
    old = source.with_name(f"{source.name}-old")
    os.replace(path, old)
    os.replace(source, path)
    shutil.rmtree(old, ignore_errors=True)


def _flush_content(path: Path) -> None:
    """Flushes a file, or all files of a folder."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "rb" if os.name == "posix" else "r+b") as opened:
                os.fsync(opened.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened; the rename is journaled there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FLUSH:
            raise
    finally:
        os.close(descriptor)
