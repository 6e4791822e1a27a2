"""BEV grid and depth bins: the single source of range and step; all sizes derive from them.

Shapes: X, Y cells of the BEV grid, D depth bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def _num_steps(lower: float, upper: float, step: float, name: str) -> int:
    """Returns the number of steps from ``lower`` to ``upper``.

    Raises:
        ValueError: the range is not a positive multiple of the step.
    """
    count = round((upper - lower) / step) if step > 0 else 0
    # The tolerance absorbs float rounding: 3 * 0.1 is not exactly 0.3.
    if count < 1 or abs(lower + count * step - upper) > 1e-6 * max(1.0, abs(upper)):
        remedy = f"; the nearest one is {_nearest_range(lower, upper, step)}" if step > 0 else ""
        raise ValueError(
            f"{name}: the range [{lower}, {upper}] must be a positive multiple of the step "
            f"{step}{remedy}"
        )
    return count


def _nearest_range(lower: float, upper: float, step: float) -> list[float]:
    """Returns the range nearest to [lower, upper] whose length is a multiple of ``step``: centred
    on 0 if the given one is, otherwise with the same lower bound."""
    # Half a step more than a multiple rounds up, so that the range is not smaller than wanted.
    length = max(1, math.floor((upper - lower) / step + 0.5 + 1e-6)) * step
    start = -length / 2 if math.isclose(lower, -upper) else lower
    return [round(start, 6), round(start + length, 6)]


def flip_probabilities(flip_prob: float | Sequence[float]) -> tuple[float, float]:
    """Returns the probabilities of a flip of x and of y, given as one number for both or as two.

    Raises:
        ValueError: they are not one or two numbers from 0 to 1.
    """
    is_pair = isinstance(flip_prob, Sequence)
    pair = tuple(map(float, flip_prob)) if is_pair else (float(flip_prob),) * 2
    if len(pair) != 2 or not all(0 <= probability <= 1 for probability in pair):
        raise ValueError(f"flip_prob must be a probability, or two, for x and y, got {flip_prob!r}")
    return pair


@dataclass(frozen=True)
class BEVGrid:
    """Bird's-eye-view (BEV) grid in the key ego frame, with square cells (docs/model.md, "View
    transform").

    A BEV map is (..., Y, X). Cell (y, x) begins at ``lower[0] + x * cell`` and
    ``lower[1] + y * cell``.

    Attributes:
        x_range: lower and upper bound, metres.
        y_range: lower and upper bound, metres.
        z_range: bounds of the only cell in z, metres.
        cell: side of a cell, metres.

    Raises:
        ValueError: a range is not increasing, or is not a multiple of ``cell`` in x or y.
    """

    x_range: tuple[float, float] = (-51.2, 51.2)
    y_range: tuple[float, float] = (-51.2, 51.2)
    z_range: tuple[float, float] = (-5.0, 3.0)
    cell: float = 0.8

    def __post_init__(self) -> None:
        # Configs give lists, of integers too; tuples of floats make equal grids equal and hashable.
        for name in ("x_range", "y_range", "z_range"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        if self.z_range[0] >= self.z_range[1]:
            raise ValueError(f"z_range must be increasing, got {self.z_range}")
        _num_steps(*self.x_range, self.cell, "BEVGrid.x_range")
        _num_steps(*self.y_range, self.cell, "BEVGrid.y_range")

    def check_flips(self, flip_prob: tuple[float, float], setting: str) -> None:
        """Checks that flips of x and y keep objects on the grid.

        Args:
            flip_prob: probabilities of a flip of x and of y.
            setting: place of ``flip_prob`` in the config, for the message.

        Raises:
            ValueError: an axis is flipped whose range is not symmetric about 0.
        """
        for axis, probability in zip("xy", flip_prob):
            lower, upper = getattr(self, f"{axis}_range")
            if not probability or math.isclose(lower, -upper):
                continue
            allowed = [0.0, flip_prob[1]] if axis == "x" else [flip_prob[0], 0.0]
            raise ValueError(
                f"{setting} flips {axis}, but model.grid.{axis}_range [{lower}, {upper}] is not "
                f"symmetric: flipped objects would leave the grid; set {setting} to {allowed} "
                "(probabilities for x and y)"
            )

    def check_stride(self, stride: int) -> None:
        """Checks that the number of cells in x and y is a multiple of the stride of an encoder.

        Args:
            stride: stride of the coarsest map, cells.

        Raises:
            ValueError: it is not; the message names the nearest range that is.
        """
        for name, cells in zip(("x_range", "y_range"), self.count):
            if cells % stride:
                lower, upper = getattr(self, name)
                nearest = _nearest_range(lower, upper, self.cell * stride)
                raise ValueError(
                    f"model.grid.{name} [{lower}, {upper}] has {cells} cells of {self.cell} m, but "
                    f"the BEV encoder needs a multiple of {stride}; the nearest range is {nearest}"
                )

    @property
    def lower(self) -> tuple[float, float, float]:
        """Lower bounds of x, y and z, metres."""
        return (self.x_range[0], self.y_range[0], self.z_range[0])

    @property
    def size(self) -> tuple[float, float, float]:
        """Size of a cell in x, y and z, metres; in z there is one cell."""
        return (self.cell, self.cell, self.z_range[1] - self.z_range[0])

    @property
    def count(self) -> tuple[int, int, int]:
        """Number of cells (X, Y, 1)."""
        return (
            _num_steps(*self.x_range, self.cell, "BEVGrid.x_range"),
            _num_steps(*self.y_range, self.cell, "BEVGrid.y_range"),
            1,
        )

    @property
    def reach(self) -> float:
        """Largest distance from the ego vehicle to a border of the grid, metres."""
        return max(map(abs, (*self.x_range, *self.y_range)))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (Y, X) of a BEV map."""
        return (self.count[1], self.count[0])

    def contains(self, centers: Tensor) -> Tensor:
        """Returns the mask of the points inside the grid, seen from above.

        Args:
            centers: (..., 2 or more) x, y in the ego frame, metres.
        """
        x, y = centers[..., 0], centers[..., 1]
        inside_x = (x > self.x_range[0]) & (x < self.x_range[1])
        return inside_x & (y > self.y_range[0]) & (y < self.y_range[1])


@dataclass(frozen=True)
class DepthBins:
    """Depth hypotheses ``start + step * k`` below ``stop``, k = 0 .. D - 1 (docs/model.md, "Depth
    network").

    Attributes:
        start: smallest depth, metres.
        stop: upper bound of the depths, metres.
        step: distance between hypotheses, metres.

    Raises:
        ValueError: ``start`` or ``step`` is not positive, or ``stop`` is not above ``start``.
    """

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
        # As torch.arange(start, stop, step) counts; the tolerance absorbs rounding of the quotient.
        return math.ceil((self.stop - self.start) / self.step - 1e-6)

    @property
    def centers(self) -> Tensor:
        """(D,) float32 depths, metres."""
        return self.start + self.step * torch.arange(self.count, dtype=torch.float32)

    def contains(self, depth: Tensor) -> Tensor:
        """Returns a mask of the depths within [start, stop]; other depths are not used as labels.

        Args:
            depth: (...) metres.
        """
        return (depth >= self.start) & (depth <= self.stop)

    def index(self, depth: Tensor) -> Tensor:
        """Returns the int64 label bin of each depth, 0 .. D - 1, or -1 outside of the bins.

        The bin is ``trunc((d - (start - step)) / step)``, valid for 1 .. D and stored one lower
        (docs/model.md, "Foreground self-distillation").

        Args:
            depth: (...) metres.
        """
        # Depths below start truncate to 0 or less, so that 1 is the first valid bin.
        index = ((depth - (self.start - self.step)) / self.step).trunc().long()
        return torch.where((index >= 1) & (index <= self.count), index, 0) - 1
