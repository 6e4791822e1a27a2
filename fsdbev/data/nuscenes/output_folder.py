"""Output folder of a preparation: its files, and a lock against concurrent runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.structures import NUSCENES_CLASSES, ClassSet
from fsdbev.utils.atomic_write import unfinished_paths
from fsdbev.utils.folder_lock import locked_folder

logger = logging.getLogger(__name__)


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
        except (FileNotFoundError, ValueError) as error:
            logger.warning("an index counts as missing, because it can't be read: %s", error)
    return indexes


@contextmanager
def exclusive_access(output: str | os.PathLike) -> Iterator[None]:
    """Creates the folder, locks it and removes unfinished files of killed runs.

    Raises:
        BlockingIOError, PermissionError: see :func:`locked_folder`.
    """
    output = Path(output)
    remedy = (
        "choose another folder with --output, and pass it to train_net.py as "
        "dataloader.index_dir. If the folder is prepared already, use --check, which writes nothing"
    )
    with locked_folder(output, remedy):
        for folder in (output, label_dir(output)):
            for path in unfinished_paths(folder, "*"):
                path.unlink(missing_ok=True)
                logger.info("removed %s, an unfinished file of a killed run", path)
        yield
