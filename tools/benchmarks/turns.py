"""Implementations of one computation: checked against each other, then timed in turns, in one run.

``torch.utils.benchmark`` times: it warms up, chooses the number of calls, synchronises GPUs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.benchmark.utils.timer import timer as wall_time

Side = Callable[[], Any]


@dataclass(frozen=True, eq=False)
class Case:
    """One computation on one input, by several implementations.

    Attributes:
        op: name of the computation.
        sizes: description of the input.
        sides: implementations by name, the project's own first. With ``inputs`` they return a
            tensor.
        difference: ``difference(own, other)`` describes how the results of two sides differ; empty
            if they agree. With ``inputs``, results are the output and the gradients.
        inputs: tensors to take gradients of; none: no backward pass is timed.
        slow: sides that are timed on demand only.
    """

    op: str
    sizes: str
    sides: Mapping[str, Side]
    difference: Callable[[Any, Any], str]
    inputs: Sequence[Tensor] = ()
    slow: frozenset[str] = frozenset()

    def passes(self) -> dict[str, Mapping[str, Side]]:
        """The functions to time: by pass, by side."""
        if not self.inputs:
            return {"forward": self.sides}
        with torch.no_grad():
            output = next(iter(self.sides.values()))()
        generator = torch.Generator(output.device).manual_seed(1)
        cotangent = torch.randn(output.shape, generator=generator, device=output.device)

        def with_gradients(side: Side) -> Side:
            def both() -> tuple[Tensor, ...]:
                result = side()
                return result, *torch.autograd.grad(result, self.inputs, cotangent)

            return both

        both = {name: with_gradients(side) for name, side in self.sides.items()}
        return {"forward": self.sides, "fwd+bwd": both}


def measure(
    cases: Sequence[Case],
    *,
    seconds: float = 0.0,
    slow: bool = False,
    clock: Callable[[], float] = wall_time,
) -> list[dict[str, Any]]:
    """One row a pass: the median times of all sides, and their ratios to the first side's.

    Args:
        cases: one a round; they differ in their input only, or are the same one.
        seconds: least time of a side in a round.
        slow: whether sides run that are timed on demand only.
        clock: gives seconds.

    Raises:
        ValueError: two sides differ; then nothing has been timed.
    """
    first = cases[0]
    names = [name for name in first.sides if slow or name not in first.slow]
    functions = {case: case.passes() for case in cases}
    for case, by_pass in functions.items():
        *_, both = by_pass.values()
        _check(case, {name: both[name]() for name in names})
    rows = []
    for which in functions[first]:
        times: dict[str, list[float]] = {name: [] for name in names}
        for turn, case in enumerate(cases):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                work, threads = functions[case][which][name], torch.get_num_threads()
                timer = Timer("work()", globals={"work": work}, timer=clock, num_threads=threads)
                times[name] += timer.blocked_autorange(min_run_time=seconds).times
        rows.append(_row(first, which, times))
    return rows


def _check(case: Case, results: Mapping[str, Any]) -> None:
    own, *others = results
    for name in others:
        if difference := case.difference(results[own], results[name]):
            raise ValueError(
                f"{case.op}, {case.sizes}: {own} and {name} do not agree ({difference}), so their "
                "times mean nothing; nothing was timed"
            )


def _row(case: Case, which: str, times: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Sides that were left out have no time."""
    medians = {name: 1e3 * statistics.median(found) for name, found in times.items()}
    own, *others = case.sides
    row = {"op": case.op, "sizes": case.sizes, "pass": which}
    row |= {f"{name} ms": medians.get(name) for name in case.sides}
    ratios = {name: medians[name] / medians[own] if name in medians else None for name in others}
    return row | {f"{name} x": ratio for name, ratio in ratios.items()}


def _tensors(result: Any) -> Sequence[Tensor]:
    return (result,) if isinstance(result, Tensor) else result


def shapes_differ(own: Any, other: Any) -> str:
    shapes = [[tuple(value.shape) for value in _tensors(values)] for values in (own, other)]
    return "" if shapes[0] == shapes[1] else f"shapes {shapes[0]} and {shapes[1]}"


def farther_than(tolerance: float) -> Callable[[Any, Any], str]:
    """A ``difference`` for tensors that must be within an absolute tolerance; 0: equal."""

    def difference(own: Any, other: Any) -> str:
        if shapes := shapes_differ(own, other):
            return shapes
        pairs = zip(_tensors(own), _tensors(other), strict=True)
        apart = max(float((one - two.to(one.device)).abs().max()) for one, two in pairs)
        return "" if apart <= tolerance else f"values {apart:.2g} apart, more than {tolerance:g}"

    return difference
