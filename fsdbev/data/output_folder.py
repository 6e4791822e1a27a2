"""The folder of a preparation: where its files are, and one run at a time that writes them."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .arrow_file import leftovers

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

logger = logging.getLogger(__name__)

_LOCK = ".prepare.lock"


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
def alone_in(output: str | os.PathLike) -> Iterator[None]:
    """Makes the folder and keeps other runs out of it. What killed runs left unfinished is removed.

    Raises:
        BlockingIOError: another run writes there.
        PermissionError: nothing can be written there.
    """
    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = _locked(output / _LOCK)
    except BlockingIOError:
        raise
    except OSError as error:
        raise PermissionError(
            f"{output}: can't be written ({error.strerror}); name a folder of your own with "
            "--output, and the same to train_net.py as dataloader.index_dir. If it is prepared "
            "already, --check looks at it and writes nothing"
        ) from error
    try:
        for folder in (output, label_dir(output)):
            for path in leftovers(folder):
                path.unlink(missing_ok=True)
                logger.info("removed %s, which a killed run left unfinished", path)
        yield
    finally:
        _release(file, output / _LOCK)


def _locked(path: Path) -> int:
    """Descriptor of the file, locked until it is closed, at the latest when the process ends."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _flock(file)
        except BlockingIOError as error:
            owner = os.read(file, 200).decode(errors="replace").strip()
            os.close(file)
            raise BlockingIOError(
                f"{path.parent}: another run writes there ({owner}); wait until it is done, or end "
                "it and run again"
            ) from error
        except OSError as error:
            # Files are written whole here too: a second run wastes time, or ends with an error.
            logger.warning("%s: no locks there (%s); let one run at a time write", path, error)
        # The run before may have removed the file between opening and locking it.
        if _is_same(file, path):
            os.truncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return file
        os.close(file)


def _release(file: int, path: Path) -> None:
    if fcntl is None:  # an open file can't be removed on Windows
        os.close(file)
        path.unlink(missing_ok=True)
    else:  # while it is locked: after that it may be another run's
        path.unlink(missing_ok=True)
        os.close(file)


def _flock(file: int) -> None:
    if fcntl is None:
        raise OSError("none on this system")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
