"""Output folder of a preparation: its files, and a lock against concurrent runs."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.structures import NUSCENES_CLASSES, ClassSet
from fsdbev.utils.atomic_write import unfinished_paths

logger = logging.getLogger(__name__)

_LOCK = ".prepare.lock"
#: Errors of file systems without locks. Preparation continues there: files appear atomically, so a
#: concurrent run costs time or ends with an error, but leaves no damaged file.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP)


def default_output(dataroot: str | os.PathLike, version: str) -> Path:
    """Returns the default folder of indexes and labels, ``<dataroot>/fsdbev/<version>``."""
    return Path(dataroot) / "fsdbev" / version


def index_path(output: str | os.PathLike, split: str) -> Path:
    """Returns the path of a split's frame index."""
    return Path(output) / f"{split}.arrow"


def label_dir(output: str | os.PathLike) -> Path:
    """Returns the folder of the point labels: one file per sample, shared by all splits."""
    return Path(output) / "point_labels"


def prepare_command(
    dataroot: str | os.PathLike,
    version: str,
    split: str,
    output: str | os.PathLike,
    classes: ClassSet | None = None,
) -> str:
    """Returns the command that prepares a split; with ``--classes`` for other classes than
    nuScenes' ten."""
    command = (
        f"python tools/prepare_nuscenes.py --dataroot {dataroot} --version {version} "
        f"--splits {split} --output {output}"
    )
    return command if classes in (None, NUSCENES_CLASSES) else f"{command} --classes CONFIG"


def prepared_indexes(output: str | os.PathLike) -> dict[str, FrameIndex]:
    """Opens the indexes of an output folder.

    Returns:
        Split name -> index, sorted by name; without files that are damaged or of another version.
    """
    indexes = {}
    for path in sorted(Path(output).glob("*.arrow")):
        try:
            indexes[path.stem] = FrameIndex(path)
        except (FileNotFoundError, ValueError):
            logger.debug("%s: can't be read and counts as missing", path, exc_info=True)
    return indexes


@contextmanager
def exclusive_access(output: str | os.PathLike) -> Iterator[None]:
    """Creates the folder, locks it against other runs and removes unfinished files of killed runs.

    Raises:
        BlockingIOError: another run holds the lock.
        PermissionError: the folder or its lock can't be written.
    """
    output = Path(output)
    lock = FileLock(output / _LOCK)
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BlockingIOError(
            f"{output}: another run is writing there; wait for it, or stop it and run again"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise PermissionError(
                f"{output}: can't be written ({error.strerror}); choose a writable folder with "
                "--output, and pass it to train_net.py as dataloader.index_dir. If the folder is "
                "prepared already, use --check, which writes nothing"
            ) from error
        text = "%s: the file system has no file locks (%s); start only one run at a time"
        logger.warning(text, output, error)
    try:
        for folder in (output, label_dir(output)):
            for path in unfinished_paths(folder, "*"):
                path.unlink(missing_ok=True)
                logger.info("removed %s, an unfinished file of a killed run", path)
        yield
    finally:
        # filelock removes the file itself on Windows only. It is removed before the release: after
        # the release it may be the lock of another run.
        if os.name == "posix":
            (output / _LOCK).unlink(missing_ok=True)
        lock.release()
