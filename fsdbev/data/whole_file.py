"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | os.PathLike, unfinished: str = ".tmp") -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block has ended without error; until
    then it stands beside it, hidden, under a name that ends in ``unfinished``. The folder is made
    when missing.

    Raises:
        OSError: the disk is full, or the folder can't be written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{unfinished}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{path}: can't be written ({error}); is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)
