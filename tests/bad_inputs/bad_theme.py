"""Bad inputs as data: what is wrong, how it is made, and what must come of it.

A theme is a module that fills a :class:`Theme`. The tests try each case, and the table of
docs/bad_inputs.md is written from the same cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: In an expected message: anything.
ANYTHING = "…"


@dataclass(frozen=True)
class Case:
    """A bad input.

    Attributes:
        what: is wrong with it, as the table says it.
        run: makes it in an empty folder and gives it to the code. Where it is to be handled, it
            also checks how.
        outcome: what the error says, ``…`` standing for anything; or how it is handled.
        error: the class of the error; None where it is handled.
    """

    what: str
    run: Callable[[Path], object]
    outcome: str
    error: type[Exception] | None

    @property
    def parts(self) -> list[str]:
        """What must be in the error's message, in this order."""
        return [part for part in self.outcome.split(ANYTHING) if part]


@dataclass
class Theme:
    """Cases of one kind of input; ``title`` and ``about`` head its table. With ``on_data_set`` the
    folder that a case is given holds the synthetic data set, as ``data``."""

    title: str
    about: str
    on_data_set: bool = False
    cases: list[Case] = field(default_factory=list)

    def refused(
        self, what: str, message: str, error: type[Exception] = ValueError
    ) -> Callable[[Callable], Callable]:
        """Decorates a function of an input that must end in an error."""
        return self._adder(what, message, error)

    def handled(self, what: str, how: str) -> Callable[[Callable], Callable]:
        """Decorates a function of an input that must be handled so."""
        return self._adder(what, how, None)

    def _adder(self, what: str, outcome: str, error: type[Exception] | None) -> Callable:
        def add(run: Callable) -> Callable:
            self.cases.append(Case(what, run, outcome, error))
            return run

        return add
