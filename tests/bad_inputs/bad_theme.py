"""Bad inputs as data: description, function that runs the case, expected outcome.

The modules ``bad_*.py`` fill instances of :class:`Theme`. The tests run each case, and
docs/bad_inputs.md is generated from the same cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: Placeholder for any text in an expected message.
ANYTHING = "…"


@dataclass(frozen=True)
class Case:
    """A bad input.

    Attributes:
        name: description of the input in the table.
        run: creates the input in an empty folder and passes it to the code; checks the result of
            inputs that are handled.
        outcome: the error's message, with ``…`` for any text, or a description of the handling.
        error: class of the error; None for inputs that are handled.
    """

    name: str
    run: Callable[[Path], object]
    outcome: str
    error: type[Exception] | None

    @property
    def parts(self) -> list[str]:
        """Parts of the error's message, in this order."""
        return [part for part in self.outcome.split(ANYTHING) if part]


@dataclass
class Theme:
    """Cases of one kind of input.

    Attributes:
        title: heading of its table.
        about: text above the table.
        on_data_set: whether the folder of a case contains the synthetic data set as ``data``.
        cases: the cases, in the order of the table.
    """

    title: str
    about: str
    on_data_set: bool = False
    cases: list[Case] = field(default_factory=list)

    def refused(
        self, name: str, message: str, error: type[Exception] = ValueError
    ) -> Callable[[Callable], Callable]:
        """Decorates the function of an input that must raise an error."""
        return self._adder(name, message, error)

    def handled(self, name: str, how: str) -> Callable[[Callable], Callable]:
        """Decorates the function of an input that must be handled."""
        return self._adder(name, how, None)

    def _adder(self, name: str, outcome: str, error: type[Exception] | None) -> Callable:
        def add(run: Callable) -> Callable:
            self.cases.append(Case(name, run, outcome, error))
            return run

        return add
