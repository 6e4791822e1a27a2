"""How numbers and names are written in a report."""

from __future__ import annotations

import math

NOTHING = "–"


def class_title(name: str) -> str:
    return name.replace("_", " ")


def counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def fraction(value: float, digits: int = 3) -> str:
    """A dash where there is no such number."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NOTHING


def percent(part: float, whole: float) -> str:
    """A dash for a share of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else NOTHING
