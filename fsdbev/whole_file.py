"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

#: Ending of what is not whole yet.
UNFINISHED = ".tmp"
#: What systems say that cannot flush a folder, as some network file systems.
_NO_FOLDER_FLUSH = (errno.EINVAL, errno.ENOTSUP)


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block has ended without error.

    Until then it stands beside ``path``, hidden, under a name of its own, and is removed if there
    is an error. The content is on the disk before the rename, and the rename before the function
    returns. The folder is made when missing.

    Raises:
        OSError: of the kind and number of the first error. It names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise _naming(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(folder: str | os.PathLike, names: str) -> list[Path]:
    """Unfinished files in a folder that were to be called as the pattern ``names``: being written,
    or left by a process that was killed."""
    return sorted(Path(folder).glob(f".{names}.*{UNFINISHED}"))


def _naming(path: Path, error: OSError) -> OSError:
    kind = type(error) if type(error).__module__ == "builtins" else OSError
    named = kind(f"{path}: can't be written ({error}); is the disk full?")
    named.errno = error.errno
    return named


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
