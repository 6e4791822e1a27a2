"""Atomic writing of files and folders: a path has its complete new content or its old one."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

#: Suffix of unfinished files and folders, and the number of random hex digits before it.
UNFINISHED, _DIGITS = ".tmp", 8
#: Error numbers of file systems that cannot flush a folder, such as some network file systems.
_NO_FOLDER_FLUSH = (errno.EINVAL, errno.ENOTSUP)


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path whose file or folder replaces ``path`` if the block succeeds.

    The temporary path is removed after an error. The content is flushed to the disk before the
    rename, and the rename before the context ends. A missing parent folder is created. A folder at
    ``path`` is removed after the rename.

    Args:
        path: path to write. The block must create a file or a folder at the yielded path.
    """
    path = Path(path)
    with temporary_path(path) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_content(temporary)
        _replace(temporary, path)
        _flush_folder(path.parent)


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yields a hidden, unique path beside ``path``; the file or folder there is removed at the end
    of the block."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(_DIGITS // 2)}{UNFINISHED}")
    try:
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Yields a binary file that replaces ``path`` if the block succeeds (see :func:`atomic_path`).

    Raises:
        OSError: writing failed; type and ``errno`` are those of the original error, and the message
            names ``path``.
    """
    try:
        with atomic_path(path) as temporary, open(temporary, "xb") as file:
            yield file
    except OSError as error:
        raise _with_path(Path(path), error) from error


def write_json(content: Any, path: str | os.PathLike, indent: int | None = None) -> None:
    """Writes a JSON file atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=indent).encode())


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a new folder that replaces ``path`` if the block succeeds; see :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.mkdir()
        yield temporary


def unfinished_paths(folder: str | os.PathLike, names: str) -> list[Path]:
    """Returns unfinished files and folders that are being written or that a killed process left.

    Args:
        folder: folder to search, without its subfolders.
        names: glob pattern of the final names.
    """
    return sorted(Path(folder).glob(f".{names}.{_DIGITS * '[0-9a-f]'}{UNFINISHED}"))


def _with_path(path: Path, error: OSError) -> OSError:
    """Returns an error of the same type and number whose message names ``path``."""
    # Other types of OSError may have constructors with other arguments.
    kind = type(error) if type(error).__module__ == "builtins" else OSError
    named = kind(f"{path}: can't be written ({error}); is the disk full?")
    named.errno = error.errno
    return named


def _replace(source: Path, path: Path) -> None:
    if not (source.is_dir() and path.exists()):
        os.replace(source, path)
        return
    # os.replace cannot replace a folder that is not empty.
    old = source.with_name(f"{source.name}-old")
    os.replace(path, old)
    os.replace(source, path)
    shutil.rmtree(old, ignore_errors=True)


def _flush_content(path: Path) -> None:
    """Flushes a file, or all files of a folder, to the disk."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            # Windows flushes only files that are open for writing.
            with open(file, "rb" if os.name == "posix" else "r+b") as opened:
                os.fsync(opened.fileno())


def _flush_folder(folder: Path) -> None:
    # Windows cannot open a folder; its file system journals the rename.
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FLUSH:
            raise
    finally:
        os.close(descriptor)
