"""How much what was sampled grew, and a picture of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsdbev.utils.atomic_write import atomic_write

#: Samples that a quarter has at least.
_LEAST = 3

#: Lines of the picture: what is drawn, its colour and what it is called.
_LINES = {
    "memory": ("#005EF5", "all"),
    "main": ("#B0490F", "training process"),
    "workers": ("#1A7F4B", "loader's workers"),
}
_INK, _GRID, _WARM_UP = "#24292F", "#D8DEE4", "#F1F3F5"


@dataclass(frozen=True)
class Sample:
    """What was seen after an iteration; numbers as in ``processes.Usage``, over all processes.

    Attributes:
        seconds: since the training began.
        iteration: iterations done.
        memory: bytes: ``own``, or ``rss`` where that is not told.
        main, workers: the same of the training's process and of the loader's workers.
        allocated: bytes that the training's process has asked for and not given back.
        files, threads: of the training's process.
    """

    seconds: float
    iteration: int
    memory: int
    main: int
    workers: int
    rss: int
    uss: int | None
    allocated: int | None
    files: int | None
    threads: int | None


@dataclass(frozen=True)
class Growth:
    """Medians of the first and the last quarter of the time after warm-up."""

    first: float
    last: float

    @property
    def percent(self) -> float:
        return 100 * (self.last / self.first - 1) if self.first else 0.0


def growth(samples: Sequence[Sample], name: str, *, warm_up: float) -> Growth | None:
    """Of one attribute; None where it is not told.

    Args:
        warm_up: share of the time that does not count.

    Raises:
        ValueError: a quarter has too few samples.
    """
    if getattr(samples[0], name) is None:
        return None
    end = samples[-1].seconds
    begin = warm_up * end
    quarter = (end - begin) / 4
    first = [getattr(s, name) for s in samples if begin <= s.seconds < begin + quarter]
    last = [getattr(s, name) for s in samples if s.seconds >= end - quarter]
    if min(len(first), len(last)) < _LEAST:
        raise ValueError(
            f"{len(first)} and {len(last)} samples in the first and last quarter after warm-up say "
            f"nothing: at least {_LEAST} are needed, with more --minutes or a smaller --every"
        )
    return Growth(statistics.median(first), statistics.median(last))


def write_picture(samples: Sequence[Sample], path: Path, *, warm_up: float, title: str) -> None:
    """Memory over time as PNG: all processes above, below each as its change since warm-up."""
    figure = Figure(figsize=(9.0, 5.6), layout="constrained", facecolor="white")
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = [s.seconds / 60 for s in samples]
    start = warm_up * minutes[-1]
    for name, (color, label) in _LINES.items():
        values = [getattr(s, name) / 2**20 for s in samples]
        before = growth(samples, name, warm_up=warm_up).first / 2**20
        above.plot(minutes, values, color=color, linewidth=1.4, label=label)
        below.plot(minutes, [v - before for v in values], color=color, linewidth=1.0, alpha=0.85)
    _style(above, "memory (MiB)", start)
    _style(below, "change (MiB) since\nthe first quarter's median", start)
    above.set_ylim(bottom=0)
    after = [s for s in samples if s.seconds / 60 >= start]
    _fit(below, after, warm_up, samples)
    above.legend(frameon=False, fontsize=9, labelcolor=_INK, loc="lower right")
    below.set_xlabel("minutes; grey: warm-up, does not count", color=_INK, fontsize=9)
    figure.suptitle(title, fontsize=10, color=_INK)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=130)


def _fit(ax: Axes, after: Sequence[Sample], warm_up: float, samples: Sequence[Sample]) -> None:
    """The range of what counts but for single samples, which are seen above: these, and the
    warm-up's rise, would flatten it."""
    changes = [
        getattr(s, name) / 2**20 - growth(samples, name, warm_up=warm_up).first / 2**20
        for name in _LINES
        for s in after
    ]
    lowest, highest = np.quantile(changes, (0.002, 0.998))
    room = 0.1 * (highest - lowest) or 1.0
    ax.set_ylim(lowest - room, highest + room)


def _style(ax: Axes, label: str, warm: float) -> None:
    ax.axvspan(0, warm, color=_WARM_UP, zorder=0)
    ax.set_xlim(left=0)
    ax.set_ylabel(label, color=_INK, fontsize=9)
    ax.grid(color=_GRID, linewidth=0.8)
    ax.tick_params(length=0, colors=_INK, labelsize=8.5)
    for side in ax.spines.values():
        side.set_visible(False)
