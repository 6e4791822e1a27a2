"""Arrow IPC files of this project: one table, a header that says what it holds, atomic writes.

The header is the Arrow schema's metadata. A file of another kind, schema version or coordinate
convention is refused with an error that names file, finding, expectation and remedy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from fsdbev.utils.atomic_write import atomic_write

REMEDY = "run tools/prepare_nuscenes.py again (with the same --output) to write it anew"


@dataclass(frozen=True)
class FileFormat:
    """What a file must be to be read.

    Attributes:
        kind: what the table holds, e.g. ``"frame-index"``.
        version: schema version; raised whenever columns or their meaning change.
        convention: frames of reference, units and class ids the numbers are in.
    """

    kind: str
    version: int
    convention: str

    def header(self) -> dict[str, str]:
        """Header fields that identify the format."""
        return {
            "fsdbev.kind": self.kind,
            "fsdbev.version": str(self.version),
            "fsdbev.convention": self.convention,
        }


def write_table(
    path: str | os.PathLike, table: pa.Table, file_format: FileFormat, extra: Mapping[str, str]
) -> None:
    """Writes ``table`` as one record batch; ``path`` either keeps its old content or is whole.

    ``extra`` are further header fields (plain text).

    Raises:
        OSError: the disk is full, or the folder can't be written to.
    """
    schema = table.schema.with_metadata({**file_format.header(), **extra})
    columns = [column.combine_chunks() for column in table.columns]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    with atomic_write(path) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch)


def read_table(
    path: str | os.PathLike, file_format: FileFormat
) -> tuple[pa.RecordBatch, dict[str, str]]:
    """Opens a file by memory map: (its record batch, its header).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an Arrow file, cut short, or of another kind, version or convention.
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
                batch.validate(full=True)  # a damaged offset would lead out of the file
            metadata = reader.schema.metadata or {}
            header = {key.decode(): value.decode() for key, value in metadata.items()}
    except PermissionError:
        raise
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError, MemoryError) as error:
        raise ValueError(
            f"{path}: not a whole {file_format.kind} file ({error}); it was cut short or is "
            f"something else; {REMEDY}"
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
