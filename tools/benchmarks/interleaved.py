"""Implementations of one thing, checked against each other and then timed in turns, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .machine import now

_MOST_REPETITIONS = 100
#: Size of the buffers whose copying shows the memory's bandwidth: beyond any cache.
_COPIED_BYTES = 2**28

Values = tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """Something that several sides compute.

    Attributes:
        op: name of the operator.
        sizes: what this case is, for the reader.
        sides: by name, what computes it; the first is the project's own. Each returns a tensor or,
            where there is no backward pass, a tuple of tensors.
        difference: ``difference(own, other)`` of what two sides computed (outputs, then the
            gradients of ``inputs``) says what is not the same, or nothing.
        moved: bytes that an ideal implementation reads and writes, forward and, with ``inputs``,
            backward.
        inputs: tensors by which the output is derived in a backward pass; none: only forward.
        kept: share of frustum points that end up in a cell.
        slow: sides that are left out unless asked for.
    """

    op: str
    sizes: str
    sides: dict[str, Callable[[], Tensor | Values]]
    difference: Callable[[Values, Values], str]
    moved: Sequence[int]
    inputs: Values = ()
    kept: float | None = None
    slow: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Row:
    """Times of one pass of one case.

    Attributes:
        milliseconds: median by side, None for a slow one that was left out.
        fastest: likewise the quickest of all repetitions, for a machine with other work.
        ratios: median of each other side over that of the first.
        repetitions: how often each side ran.
        megabytes: what an ideal implementation moves.
        gigabytes_per_second: that over the time of the first side.
        bandwidth_share: that over the bandwidth of copying; above 1 the data is in a cache.
    """

    op: str
    sizes: str
    kept: float | None
    passes: str
    milliseconds: dict[str, float | None]
    fastest: dict[str, float | None]
    ratios: dict[str, float | None]
    repetitions: int
    megabytes: float
    gigabytes_per_second: float
    bandwidth_share: float


@dataclass(frozen=True)
class Bench:
    """How cases are timed.

    Attributes:
        device: where they run.
        repeat: least number of repetitions.
        seconds: quick cases are repeated until they have taken so long.
        with_slow: whether slow sides run too.
        copy_bandwidth: bytes a second that copying reads and writes.
    """

    device: torch.device
    repeat: int
    seconds: float
    with_slow: bool
    copy_bandwidth: float

    def measure(self, case: Case) -> list[Row]:
        """One row a pass.

        Raises:
            ValueError: two sides do not agree; then nothing has been timed.
        """
        cotangent = self._cotangent(case)
        names = [name for name in case.sides if self.with_slow or name not in case.slow]
        self._check(case, names, cotangent)
        times: dict[str, list[list[float]]] = {name: [] for name in names}
        begin, count = time.perf_counter(), 0
        while count < self.repeat or (
            count < _MOST_REPETITIONS and time.perf_counter() - begin < self.seconds
        ):
            turn = count % len(names)
            for name in names[turn:] + names[:turn]:
                times[name].append(self._run(case, name, cotangent)[1])
            count += 1
        return [
            self._row(case, number, {name: [t[number] for t in times[name]] for name in names})
            for number in range(len(case.moved))
        ]

    def _check(self, case: Case, names: Sequence[str], cotangent: Tensor | None) -> None:
        own, *others = names
        expected, _ = self._run(case, own, cotangent)
        for name in others:
            values, _ = self._run(case, name, cotangent)
            if difference := case.difference(expected, values):
                raise ValueError(
                    f"{case.op}, {case.sizes}: {own} and {name} do not agree ({difference}), so "
                    "their times mean nothing; nothing was timed"
                )

    def _cotangent(self, case: Case) -> Tensor | None:
        if not case.inputs:
            return None
        with torch.no_grad():
            output = next(iter(case.sides.values()))()
        generator = torch.Generator(output.device).manual_seed(1)
        return torch.randn(output.shape, generator=generator, device=output.device)

    def _run(self, case: Case, name: str, cotangent: Tensor | None) -> tuple[Values, list[float]]:
        """What a side computes; seconds of its forward pass, and of both passes."""
        begin = now(self.device)
        output = case.sides[name]()
        seconds = [now(self.device) - begin]
        values = output if isinstance(output, tuple) else (output,)
        if cotangent is not None:
            values += torch.autograd.grad(output, case.inputs, cotangent)
            seconds.append(now(self.device) - begin)
        return tuple(value.detach() for value in values), seconds

    def _row(self, case: Case, number: int, times: dict[str, list[float]]) -> Row:
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        own, *others = case.sides
        speed = case.moved[number] / medians[own]
        return Row(
            op=case.op,
            sizes=case.sizes,
            kept=case.kept,
            passes=("forward", "fwd+bwd")[number],
            milliseconds={n: 1e3 * medians[n] if n in medians else None for n in case.sides},
            fastest={n: 1e3 * min(times[n]) if n in times else None for n in case.sides},
            ratios={n: medians[n] / medians[own] if n in medians else None for n in others},
            repetitions=len(times[own]),
            megabytes=case.moved[number] / 1e6,
            gigabytes_per_second=speed / 1e9,
            bandwidth_share=speed / self.copy_bandwidth,
        )


def copy_bandwidth(device: torch.device, repeat: int) -> float:
    """Bytes a second that copying from memory to memory reads and writes, the median."""
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copy = Case("copy", "", {"copy": lambda: target.copy_(source)}, lambda *_: "", (1,))
    bench = Bench(device, repeat, seconds=0, with_slow=False, copy_bandwidth=1.0)
    (row,) = bench.measure(copy)
    return 2 * _COPIED_BYTES / (row.milliseconds["copy"] / 1e3)


def bytes_of(*tensors: Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def shapes_differ(own: Values, other: Values) -> str:
    shapes = [tuple(tuple(value.shape) for value in values) for values in (own, other)]
    return "" if shapes[0] == shapes[1] else f"shapes {shapes[0]} and {shapes[1]}"


def unequal(own: Values, other: Values) -> str:
    """A ``difference`` for results that must be the same."""
    if shapes := shapes_differ(own, other):
        return shapes
    wrong = sum(int((one != two.to(one.device)).sum()) for one, two in zip(own, other))
    return f"{wrong} values are not the same" if wrong else ""


def farther_than(tolerance: float) -> Callable[[Values, Values], str]:
    """A ``difference`` for results that must be within an absolute tolerance."""

    def difference(own: Values, other: Values) -> str:
        if shapes := shapes_differ(own, other):
            return shapes
        apart = [(one - two.to(one.device)).abs().max() for one, two in zip(own, other)]
        worst = max(map(float, apart))
        return "" if worst <= tolerance else f"values {worst:.2g} apart, more than {tolerance:g}"

    return difference


def table(rows: Sequence[Row]) -> str:
    """Aligned text, one line a row."""
    sides = list(dict.fromkeys(side for row in rows for side in row.milliseconds))
    others = [side for side in sides if any(side in row.ratios for row in rows)]
    lines = [
        ["op", "sizes", "kept", "pass"]
        + [f"{side} ms" for side in sides]
        + [f"{side} x" for side in others]
        + ["MB", "GB/s", "of copy"]
    ]
    for row in rows:
        line = [row.op, row.sizes, "" if row.kept is None else f"{row.kept:.3f}", row.passes]
        line += [_number(row.milliseconds, side) for side in sides]
        line += [_number(row.ratios, side) for side in others]
        line += [f"{row.megabytes:.2f}", f"{row.gigabytes_per_second:.2f}"]
        lines.append([*line, f"{100 * row.bandwidth_share:.0f} %"])
    return "\n".join(aligned(lines))


def _number(values: dict[str, float | None], side: str) -> str:
    """Three digits; empty where a case has no such side, - where it was left out."""
    if side not in values:
        return ""
    value = values[side]
    return "-" if value is None else f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def aligned(lines: Iterable[Sequence[str]]) -> list[str]:
    """Columns of equal width; the first two are text, flush left."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    cells = [
        [cell.ljust(width) if place < 2 else cell.rjust(width) for cell in column]
        for place, (column, width) in enumerate(zip(columns, widths, strict=True))
    ]
    return ["  ".join(line).rstrip() for line in zip(*cells, strict=True)]
