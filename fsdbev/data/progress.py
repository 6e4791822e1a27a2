"""How work on many items says how far it is, without knowing who shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

#: Shows how far a loop is: (its items, how many, what is done) -> the same items.
Progress = Callable[[Iterable, int, str], Iterable]


def no_progress(items: Iterable, total: int, what: str) -> Iterable:
    """Shows nothing."""
    return items
