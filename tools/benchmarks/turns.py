"""Comparison of implementations: checks that they agree, then times them in turns in one run.

Times are measured by ``torch.utils.benchmark``, which warms up, chooses the number of calls and
synchronises with GPUs.
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

#: One implementation of a computation, with its inputs bound.
Side = Callable[[], Any]


@dataclass(frozen=True, eq=False)
class Case:
    """Several implementations of one computation on one input.

    Attributes:
        op: name of the computation.
        sizes: description of the input.
        sides: implementations by name, the project's own first. With ``inputs`` they return a
            tensor.
        difference: ``difference(own, other)`` describes how two results differ and is empty if
            they agree. With ``inputs``, results are the output and the gradients.
        inputs: tensors to compute gradients of; without inputs no backward pass is timed.
        slow: names of implementations that are timed only on request.
    """

    op: str
    sizes: str
    sides: Mapping[str, Side]
    difference: Callable[[Any, Any], str]
    inputs: Sequence[Tensor] = ()
    slow: frozenset[str] = frozenset()

    def passes(self) -> dict[str, Mapping[str, Side]]:
        """Returns the functions to time, by pass and implementation."""
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
    """Measures the median times of all implementations and their ratios to the first one.

    Args:
        cases: one case per round; they differ only in their input, or are the same case.
        seconds: least time of an implementation in a round.
        slow: whether slow implementations are timed too.
        clock: returns the time in seconds.

    Returns:
        One row per pass.

    Raises:
        ValueError: two implementations disagree; nothing is timed then.
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
        # Each round starts with another implementation, so that no one is always first.
        for turn, case in enumerate(cases):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                work, threads = functions[case][which][name], torch.get_num_threads()
                timer = Timer("work()", globals={"work": work}, timer=clock, num_threads=threads)
                times[name] += timer.blocked_autorange(min_run_time=seconds).times
        rows.append(_row(first, which, times))
    return rows


def _check(case: Case, results: Mapping[str, Any]) -> None:
    """Raises a ValueError if a result disagrees with the first one."""
    own, *others = results
    for name in others:
        if difference := case.difference(results[own], results[name]):
            raise ValueError(
                f"{case.op}, {case.sizes}: {own} and {name} do not agree ({difference}); nothing "
                "was timed"
            )


def _row(case: Case, which: str, times: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Returns a row of times and ratios, None for implementations that were left out."""
    medians = {name: 1e3 * statistics.median(found) for name, found in times.items()}
    own, *others = case.sides
    row = {"op": case.op, "sizes": case.sizes, "pass": which}
    row |= {f"{name} ms": medians.get(name) for name in case.sides}
    ratios = {name: medians[name] / medians[own] if name in medians else None for name in others}
    return row | {f"{name} x": ratio for name, ratio in ratios.items()}


def _tensors(result: Any) -> Sequence[Tensor]:
    """Returns the tensors of a result, which may be a single tensor."""
    return (result,) if isinstance(result, Tensor) else result


def shapes_differ(own: Any, other: Any) -> str:
    """Describes how the shapes of two results differ; empty if they are equal."""
    shapes = [[tuple(value.shape) for value in _tensors(values)] for values in (own, other)]
    return "" if shapes[0] == shapes[1] else f"shapes {shapes[0]} and {shapes[1]}"


def farther_than(tolerance: float) -> Callable[[Any, Any], str]:
    """Returns a ``difference`` for tensors with an absolute tolerance; 0 requires equality."""

    def difference(own: Any, other: Any) -> str:
        if shapes := shapes_differ(own, other):
            return shapes
        pairs = zip(_tensors(own), _tensors(other), strict=True)
        apart = max(float((one - two.to(one.device)).abs().max()) for one, two in pairs)
        return "" if apart <= tolerance else f"values {apart:.2g} apart, more than {tolerance:g}"

    return difference
