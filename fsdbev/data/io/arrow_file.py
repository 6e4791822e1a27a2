"""Arrow IPC files with one table and a header that identifies the format, written atomically.

The header is the metadata of the Arrow schema. Reading a file of another kind, schema version or
coordinate convention raises an error with the found and the expected value and the remedy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from fsdbev.utils.atomic_write import atomic_write

REMEDY = "run tools/prepare_nuscenes.py again (with the same --output) to rewrite it"


@dataclass(frozen=True)
class FileFormat:
    """Identity of a file format.

    Attributes:
        kind: kind of the table, e.g. ``"frame-index"``.
        version: schema version; it increases whenever columns or their meaning change.
        convention: frames of reference, units and class ids of the values.
    """

    kind: str
    version: int
    convention: str

    def header(self) -> dict[str, str]:
        """Returns the header fields that identify the format."""
        return {
            "fsdbev.kind": self.kind,
            "fsdbev.version": str(self.version),
            "fsdbev.convention": self.convention,
        }


def write_table(
    path: str | os.PathLike, table: pa.Table, file_format: FileFormat, extra: Mapping[str, str]
) -> None:
    """Writes a table atomically as one record batch.

    Args:
        path: path of the file; an existing file stays intact until the new one is complete.
        table: the table.
        file_format: format of the file.
        extra: further header fields.

    Raises:
        OSError: the disk is full, or the folder is not writable.
    """
    schema = table.schema.with_metadata({**file_format.header(), **extra})
    # One batch: readers take views of contiguous columns.
    columns = [column.combine_chunks() for column in table.columns]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    with atomic_write(path) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch)


def read_table(
    path: str | os.PathLike, file_format: FileFormat
) -> tuple[pa.RecordBatch, dict[str, str]]:
    """Memory-maps a file.

    Args:
        path: path of the file.
        file_format: expected format.

    Returns:
        The record batch, whose buffers are views of the file, and the header fields.

    Raises:
        FileNotFoundError: the file does not exist.
        PermissionError: the file is not readable.
        ValueError: it is no Arrow file, is damaged, or has another kind, version or convention.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such {file_format.kind} file; {REMEDY}")
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            batches = reader.num_record_batches
            batch = reader.get_batch(0) if batches == 1 else None
            if batch is not None:
                # Full validation, because a damaged offset would read outside of the file.
                batch.validate(full=True)
            metadata = reader.schema.metadata or {}
            header = {key.decode(): value.decode() for key, value in metadata.items()}
    except PermissionError:
        raise  # an OSError, but the file is not damaged
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError, MemoryError) as error:
        raise ValueError(
            f"{path}: not a complete {file_format.kind} file ({error}); it is damaged or of "
            f"another format; {REMEDY}"
        ) from error
    if batch is None:
        raise ValueError(f"{path}: {batches} record batches found, 1 expected; {REMEDY}")
    for field, expected in file_format.header().items():
        found = header.get(field)
        if found != expected:
            raise ValueError(
                f"{path}: {field} is {found!r}, but this code reads {expected!r}; {REMEDY}"
            )
    return batch, header
