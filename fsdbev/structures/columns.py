"""Columns: base class of tables with one array for each column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Table = TypeVar("Table", bound="Columns")


class Columns:
    """Base class of a dataclass whose fields are arrays with one entry for each item.

    ``points[points.depth > 1]`` has the selected entries of every field, ``len(points)`` counts the
    items, and ``concatenate`` joins tables of one class.
    """

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def __getitem__(self: Table, which: NDArray | slice) -> Table:
        """Returns the items that a mask, an index array or a slice selects."""
        return type(self)(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def concatenate(cls: type[Table], parts: Iterable[Table]) -> Table:
        """Concatenates the items of one or more tables, in order."""
        columns = zip(*([getattr(p, f.name) for f in fields(cls)] for p in parts), strict=True)
        return cls(*map(np.concatenate, columns))
