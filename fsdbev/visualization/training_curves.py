"""A picture of how a training went: losses, metrics, learning rate, gradients.

Shapes: K values of a scalar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec

from .canvas import CLASS_COLORS, GRID_COLOR, TEXT_COLOR, new_page, pixels_of, text_color

TOTAL_LOSS, LEARNING_RATE, GRADIENT = "total_loss", "lr", "grad_norm"

_MUTED = "#9AA3AD"
#: The palette's colours that tell two or three lines apart best.
_FIRST, _SECOND = CLASS_COLORS["bicycle"], CLASS_COLORS["car"]
#: Metrics that are drawn where there are any of them; else the first few.
_METRICS = ("mAP", "NDS")
_MOST_METRICS = 6
#: Smoothing averages over this share of the values.
_WINDOW = 1 / 20
#: Least distance of two labels, as a share of the axes' height.
_LABEL_STEP = 0.062


@dataclass(frozen=True)
class Scalar:
    """A scalar over iterations.

    Attributes:
        iterations: (K,) rising.
        values: (K,) finite.
    """

    iterations: np.ndarray
    values: np.ndarray

    def smoothed(self) -> np.ndarray:
        """(K,) means over the values around each."""
        half = int(len(self.values) * _WINDOW / 2)
        sums = np.concatenate([[0.0], np.cumsum(self.values)])
        places = np.arange(len(self.values))
        begin = np.maximum(0, places - half)
        end = np.minimum(len(self.values), places + half + 1)
        return (sums[end] - sums[begin]) / (end - begin)


def training_curves(scalars: Mapping[str, Scalar], title: str) -> np.ndarray:
    """The curves of what is known of a training.

    Args:
        scalars: by name, as a trainer's event storage has them: ``total_loss``, names with ``loss``
            for its terms, of which those of several tasks (``task0.loss_xy``, ``task1.loss_xy``)
            are added up; ``lr``; ``grad_norm``; and names with a ``/`` for metrics.

    Returns:
        (H, W, 3) uint8 RGB picture.
    """
    figure = new_page(13, 7.6)
    figure.text(0.012, 0.975, title, color=TEXT_COLOR, fontsize=11, va="top")
    sides = {"left": 0.05, "right": 0.985, "top": 0.9, "bottom": 0.07}
    grid = GridSpec(2, 6, figure, hspace=0.34, wspace=0.9, **sides)
    _draw_total(_panel(figure, grid[0, :2], "total loss"), scalars.get(TOTAL_LOSS))
    _draw_terms(_panel(figure, grid[0, 2:], "loss terms, summed over tasks"), loss_terms(scalars))
    _draw_metrics(_panel(figure, grid[1, :2], "metrics"), metrics_of(scalars))
    _draw_rate(_panel(figure, grid[1, 2:4], "learning rate"), scalars.get(LEARNING_RATE))
    _draw_total(
        _panel(figure, grid[1, 4:], "norm of the gradient"), scalars.get(GRADIENT), logarithmic=True
    )
    return pixels_of(figure)


def loss_terms(scalars: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The terms of the total loss by name, those of several tasks added up."""
    sums: dict[str, dict[int, float]] = {}
    for name, scalar in scalars.items():
        if "loss" not in name or name == TOTAL_LOSS or "/" in name:
            continue
        term = sums.setdefault(name.rpartition(".")[2].removeprefix("loss_"), {})
        for iteration, value in zip(scalar.iterations.tolist(), scalar.values.tolist()):
            term[iteration] = term.get(iteration, 0.0) + value
    return {
        name: Scalar(np.array(sorted(term)), np.array([term[i] for i in sorted(term)]))
        for name, term in sums.items()
    }


def metrics_of(scalars: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """mAP and NDS, in this order, or without them the first few metrics; by their names' ends."""
    known = {name: scalar for name, scalar in scalars.items() if "/" in name}
    chosen = [name for main in _METRICS for name in known if name.rpartition("/")[2] == main]
    return {name.rpartition("/")[2]: known[name] for name in chosen or list(known)[:_MOST_METRICS]}


def _panel(figure: Figure, place: SubplotSpec, title: str) -> Axes:
    ax = figure.add_subplot(place)
    ax.set_title(title, loc="left", fontsize=9.5, color=TEXT_COLOR)
    ax.set_facecolor("none")
    ax.grid(color=GRID_COLOR, linewidth=0.5, alpha=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GRID_COLOR)
    ax.tick_params(colors=_MUTED, labelsize=7.5, which="both", length=2)
    ax.set_xlabel("iteration", fontsize=7.5, color=_MUTED, labelpad=1)
    return ax


def _draw_total(ax: Axes, scalar: Scalar | None, *, logarithmic: bool = False) -> None:
    """The values, faint, and their means."""
    if scalar is None:
        _write_no_data(ax)
        return
    ax.plot(scalar.iterations, scalar.values, color=_FIRST, alpha=0.35, linewidth=0.9)
    smooth = scalar.smoothed()
    ax.plot(scalar.iterations, smooth, color=_FIRST, linewidth=1.8)
    if logarithmic and (scalar.values > 0).all():
        ax.set_yscale("log")
    ax.set_title(f"last {smooth[-1]:.3g}", loc="right", fontsize=8.5, color=_MUTED)


def _draw_rate(ax: Axes, scalar: Scalar | None) -> None:
    if scalar is None:
        _write_no_data(ax)
        return
    ax.plot(scalar.iterations, scalar.values, color=_FIRST, linewidth=1.8)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter("{x:.3g}")


def _draw_terms(ax: Axes, terms: Mapping[str, Scalar]) -> None:
    """A line a term, on a logarithmic scale, with its name at its end."""
    positive = {name: term for name, term in terms.items() if (term.values > 0).any()}
    if not positive:
        _write_no_data(ax)
        return
    ax.set_yscale("log")
    ends = {name: term.smoothed()[-1] for name, term in positive.items()}
    names = sorted(ends, key=ends.__getitem__, reverse=True)
    palette = list(CLASS_COLORS.values())
    colors = {name: palette[i % len(palette)] for i, name in enumerate(names)}
    for name in names:
        term = positive[name]
        values = np.where(term.values > 0, term.values, np.nan)
        ax.plot(term.iterations, values, color=colors[name], alpha=0.3, linewidth=0.7)
        ax.plot(term.iterations, term.smoothed(), color=colors[name], linewidth=1.5)
    last = max(term.iterations[-1] for term in positive.values())
    ax.set_xlim(right=max(1, last))
    heights = [
        ax.transAxes.inverted().transform(ax.transData.transform((last, ends[n])))[1] for n in names
    ]
    for name, height in zip(names, _apart(heights), strict=True):
        text = f"{name}  {ends[name]:.3g}"
        color = text_color(colors[name])
        ax.text(1.012, height, text, transform=ax.transAxes, color=color, fontsize=7.5, va="center")
    box = ax.get_position()
    ax.set_position((box.x0, box.y0, box.width * 0.87, box.height))


def _apart(heights: Sequence[float]) -> list[float]:
    """Falling heights, moved so that each is a label's height below the one before and all stay
    within 0 and 1 where there is room."""
    count = len(heights)
    placed: list[float] = []
    for number, height in enumerate(heights):
        highest = placed[-1] - _LABEL_STEP if placed else 1.0
        lowest = _LABEL_STEP * (count - 1 - number)
        placed.append(min(highest, max(lowest, height)))
    return placed


def _draw_metrics(ax: Axes, metrics: Mapping[str, Scalar]) -> None:
    if not metrics:
        _write_no_data(ax)
        return
    palette = [_SECOND, _FIRST, *CLASS_COLORS.values()]
    markers = "osD^vP"
    for number, (name, scalar) in enumerate(metrics.items()):
        label = f"{name}  {scalar.values[-1]:.3f}"
        style = {"marker": markers[number % len(markers)], "markersize": 4, "linewidth": 1.6}
        ax.plot(scalar.iterations, scalar.values, color=palette[number], label=label, **style)
    ax.margins(y=0.25)
    # from the start on, so that a single evaluation stands where it was
    ax.set_xlim(0, 1.06 * max(1, *(scalar.iterations[-1] for scalar in metrics.values())))
    if all((scalar.values >= 0).all() for scalar in metrics.values()):
        ax.set_ylim(bottom=0)
    ax.legend(loc="lower right", frameon=False, fontsize=8, labelcolor=TEXT_COLOR)


def _write_no_data(ax: Axes) -> None:
    style = {"ha": "center", "va": "center", "transform": ax.transAxes}
    ax.text(0.5, 0.5, "none yet", color=_MUTED, fontsize=8.5, **style)
    ax.set(xticks=[], yticks=[], xlabel="")
