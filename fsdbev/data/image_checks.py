"""Check of all images of a data set, and their checksums in its frame index."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pyarrow as pa

from .dataset import FrameDataset
from .index.frame_index import INDEX_FORMAT, FrameIndex
from .index.index_columns import SCHEMA
from .io import image_file
from .io.arrow_file import read_table, write_table
from .parallel import Progress, map_rows, no_progress

logger = logging.getLogger(__name__)

#: Number of bad images that an error lists.
_MAX_LISTED = 10


def add_image_crcs(
    path: str | os.PathLike,
    dataroot: str | os.PathLike,
    workers: int = 0,
    progress: Progress = no_progress,
    output: str | os.PathLike | None = None,
) -> FrameIndex:
    """Decodes all images of an index and writes their checksums into it.

    Reading an image that has changed afterwards raises an error.

    Args:
        path: path of the index file.
        dataroot: folder that its paths are relative to.
        workers: number of processes; 0 works in the calling process.
        progress: wraps the loop over samples and shows its progress.
        output: index file to write; None replaces ``path``.

    Returns:
        The index with the checksums.

    Raises:
        ValueError: images are missing, damaged or of another size than in the index, or differ from
            the checksums that it has.
        OSError: the index can't be written, or a worker was killed.
    """
    output = Path(output or path)
    if image_file.simplejpeg is None:
        logger.warning(
            "simplejpeg is not installed, and Pillow reads JPEG files with damaged content: damage "
            "that is older than %s can't be found",
            output,
        )
    index = FrameIndex(path)
    dataset = FrameDataset(output.stem, index, Path(dataroot))
    rows = map_rows(_RowImages, (dataset,), len(index), workers)
    # Workers return the rows in any order.
    found = dict(progress(rows, len(index), f"images, {dataset.name}"))
    crcs, findings = zip(*(found[row] for row in range(len(index))), strict=True)
    bad = [text for texts in findings for text in texts]
    if bad:
        raise ValueError(
            f"{output}: {len(bad)} of its images can't be used; fetch them again, or leave out "
            "their scenes (tools/prepare_nuscenes.py --scenes). The first ones:\n"
            + "\n".join(bad[:_MAX_LISTED])
        )
    batch, header = read_table(path, INDEX_FORMAT)
    field = SCHEMA.field("image_crcs")
    column = SCHEMA.get_field_index(field.name)
    table = pa.Table.from_batches([batch])
    table = table.set_column(column, field, pa.array(crcs, field.type))
    write_table(output, table, INDEX_FORMAT, header)
    return FrameIndex(output)


class _RowImages:
    """Decodes the images of a row; returns the row, their checksums, and a text for each one that
    can't be used."""

    def __init__(self, dataset: FrameDataset) -> None:
        self.dataset = dataset

    def __call__(self, row: int) -> tuple[int, tuple[list[int], list[str]]]:
        frame = self.dataset.index[row]
        crcs, findings = [], []
        for camera in range(frame.num_cameras):
            try:
                image = self.dataset.image_file(frame, camera)
                image.decode()
                crcs.append(image.crc)
            except (OSError, ValueError) as error:
                findings.append(f"{frame.scene_name}: {error}")
        return row, (crcs, findings)
