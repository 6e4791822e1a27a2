"""The folder of a preparation: where its files are, and one run at a time that writes them."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fsdbev.utils.atomic_write import leftovers

logger = logging.getLogger(__name__)

_LOCK = ".prepare.lock"
#: Errors of file systems without locks. Files are written whole there too: a second run wastes
#: time, or ends with an error.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP)


def default_output(dataroot: str | os.PathLike, version: str) -> Path:
    """Where index and labels go unless said otherwise."""
    return Path(dataroot) / "fsdbev" / version


def index_path(output: str | os.PathLike, split: str) -> Path:
    """Index file of a split."""
    return Path(output) / f"{split}.arrow"


def label_dir(output: str | os.PathLike) -> Path:
    """Folder of the point labels, one file a sample, shared by all splits of a version."""
    return Path(output) / "point_labels"


@contextmanager
def exclusive_access(output: str | os.PathLike) -> Iterator[None]:
    """Makes the folder and keeps other runs out of it. What killed runs left unfinished is removed.

    Raises:
        BlockingIOError: another run writes there.
        PermissionError: nothing can be written there.
    """
    output = Path(output)
    lock = FileLock(output / _LOCK)
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BlockingIOError(
            f"{output}: another run writes there; wait until it is done, or end it and run again"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise PermissionError(
                f"{output}: can't be written ({error.strerror}); name a folder of your own with "
                "--output, and the same to train_net.py as dataloader.index_dir. If it is prepared "
                "already, --check looks at it and writes nothing"
            ) from error
        logger.warning("%s: no locks there (%s); let one run at a time write", output, error)
    try:
        for folder in (output, label_dir(output)):
            for path in leftovers(folder, "*"):
                path.unlink(missing_ok=True)
                logger.info("removed %s, which a killed run left unfinished", path)
        yield
    finally:
        if os.name == "posix":  # elsewhere filelock removes it
            # while it is locked: after that it may be another run's
            (output / _LOCK).unlink(missing_ok=True)
        lock.release()
