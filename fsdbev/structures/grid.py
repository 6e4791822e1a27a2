"""The BEV grid and the depth bins: each alone knows its range and step; sizes derive from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def _count(lower: float, upper: float, step: float, what: str) -> int:
    count = round((upper - lower) / step) if step > 0 else 0
    if count < 1 or abs(lower + count * step - upper) > 1e-6 * max(1.0, abs(upper)):
        raise ValueError(
            f"{what}: the range [{lower}, {upper}] must be a positive multiple of the step {step}"
        )
    return count


@dataclass(frozen=True)
class BEVGrid:
    """Bird's-eye-view grid in the key ego frame (metres), cells of equal size in x and y.

    A BEV map is (..., Y, X); cell (y, x) begins at ``lower + index * cell`` of either axis.
    """

    x_range: tuple[float, float] = (-51.2, 51.2)
    y_range: tuple[float, float] = (-51.2, 51.2)
    z_range: tuple[float, float] = (-5.0, 3.0)
    cell: float = 0.8

    def __post_init__(self) -> None:
        for name in ("x_range", "y_range", "z_range"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        if self.z_range[0] >= self.z_range[1]:
            raise ValueError(f"z_range must be increasing, got {self.z_range}")
        _count(*self.x_range, self.cell, "BEVGrid.x_range")
        _count(*self.y_range, self.cell, "BEVGrid.y_range")

    @property
    def lower(self) -> tuple[float, float, float]:
        """Lower corner (x, y, z) in metres."""
        return (self.x_range[0], self.y_range[0], self.z_range[0])

    @property
    def size(self) -> tuple[float, float, float]:
        """Size of a cell (x, y, z) in metres; z is one cell."""
        return (self.cell, self.cell, self.z_range[1] - self.z_range[0])

    @property
    def count(self) -> tuple[int, int, int]:
        """Number of cells (X, Y, 1)."""
        return (
            _count(*self.x_range, self.cell, "BEVGrid.x_range"),
            _count(*self.y_range, self.cell, "BEVGrid.y_range"),
            1,
        )

    @property
    def reach(self) -> float:
        """How far it goes from the ego along an axis, metres."""
        return max(map(abs, (*self.x_range, *self.y_range)))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (Y, X) of a BEV map."""
        return (self.count[1], self.count[0])


@dataclass(frozen=True)
class DepthBins:
    """Depth hypotheses ``start + step * k`` metres, k = 0 .. count - 1, below ``stop``."""

    start: float = 1.0
    stop: float = 60.0
    step: float = 0.5

    def __post_init__(self) -> None:
        if self.start <= 0:
            raise ValueError(f"DepthBins.start must be positive, got {self.start}")
        if self.step <= 0 or self.stop <= self.start:
            raise ValueError(
                f"DepthBins must have step > 0 and stop > start, got start {self.start}, "
                f"stop {self.stop}, step {self.step}"
            )

    @property
    def count(self) -> int:
        """Number of bins D."""
        return math.ceil((self.stop - self.start) / self.step - 1e-6)

    @property
    def centers(self) -> Tensor:
        """(D,) float32 depths in metres."""
        return self.start + self.step * torch.arange(self.count, dtype=torch.float32)

    def contains(self, depth: Tensor) -> Tensor:
        """Bool mask of the depths (metres) within [start, stop]; others carry no label."""
        return (depth >= self.start) & (depth <= self.stop)

    def index(self, depth: Tensor) -> Tensor:
        """Depths in metres -> int64 label bins 0 .. D - 1, or -1 where there is none.

        ``trunc((d - (start - step)) / step)`` is valid for 1 .. D and stored one lower.
        """
        index = ((depth - (self.start - self.step)) / self.step).trunc().long()
        return torch.where((index >= 1) & (index <= self.count), index, 0) - 1
