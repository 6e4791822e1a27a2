"""Training curves: one picture of losses, metrics, learning rate and gradient norm.

Shapes: K values of a scalar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec

from .canvas import GRID_COLOR, PALETTE, TEXT_COLOR, colors_of, new_page, pixels_of, text_color

TOTAL_LOSS, LEARNING_RATE, GRADIENT = "total_loss", "lr", "grad_norm"

_MUTED = "#9AA3AD"
#: Colours of panels with one or two lines.
_FIRST, _SECOND = PALETTE[7], PALETTE[0]
#: Metrics to draw. Without any of them, the first ``_MAX_METRICS`` metrics are drawn.
_METRICS = ("mAP", "NDS")
_MAX_METRICS = 6
#: Width of the smoothing window as a fraction of the number of values.
_WINDOW = 1 / 20
#: Least distance between two labels as a fraction of the axes' height.
_LABEL_STEP = 0.062


@dataclass(frozen=True)
class Scalar:
    """Values of a scalar over the iterations of a training.

    Attributes:
        iterations: (K,) iterations in ascending order.
        values: (K,) finite values.
    """

    iterations: np.ndarray
    values: np.ndarray

    def smoothed(self) -> np.ndarray:
        """Computes the (K,) moving averages; windows are cut at both ends."""
        half = int(len(self.values) * _WINDOW / 2)
        sums = np.concatenate([[0.0], np.cumsum(self.values)])
        places = np.arange(len(self.values))
        begin = np.maximum(0, places - half)
        end = np.minimum(len(self.values), places + half + 1)
        return (sums[end] - sums[begin]) / (end - begin)


def training_curves(scalars: Mapping[str, Scalar], title: str) -> np.ndarray:
    """Draws the curves of a training.

    Args:
        scalars: scalars by their names in the trainer's event storage: ``total_loss``, ``lr``,
            ``grad_norm``, loss terms (other names with ``loss``) and metrics (names with ``/``).
            Terms of several tasks (``task0.loss_xy``, ``task1.loss_xy``) are summed. Panels whose
            scalars are missing stay empty.
        title: text above the panels.

    Returns:
        (H, W, 3) uint8 RGB image.
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
    """Returns the terms of the total loss by name, summed over tasks."""
    sums: dict[str, dict[int, float]] = {}
    for name, scalar in scalars.items():
        # Names with a slash are metrics of an evaluation, which may contain the word as well.
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
    """Returns the metrics to draw, by the last part of their names.

    These are mAP and NDS in this order, or without them the first few metrics.
    """
    known = {name: scalar for name, scalar in scalars.items() if "/" in name}
    chosen = [name for main in _METRICS for name in known if name.rpartition("/")[2] == main]
    return {name.rpartition("/")[2]: known[name] for name in chosen or list(known)[:_MAX_METRICS]}


def _panel(figure: Figure, place: SubplotSpec, title: str) -> Axes:
    """Adds axes with a title, a grid and an iteration axis."""
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
    """Draws the values as a faint line and their moving average as a strong line."""
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
    """Draws the learning rate."""
    if scalar is None:
        _write_no_data(ax)
        return
    ax.plot(scalar.iterations, scalar.values, color=_FIRST, linewidth=1.8)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter("{x:.3g}")


def _draw_terms(ax: Axes, terms: Mapping[str, Scalar]) -> None:
    """Draws one line for each loss term on a logarithmic scale, with its name at the end."""
    positive = {name: term for name, term in terms.items() if (term.values > 0).any()}
    if not positive:
        _write_no_data(ax)
        return
    ax.set_yscale("log")
    ends = {name: term.smoothed()[-1] for name, term in positive.items()}
    names = sorted(ends, key=ends.__getitem__, reverse=True)
    colors = dict(zip(names, colors_of(names), strict=True))
    for name in names:
        term = positive[name]
        # A logarithmic axis has no place for 0; NaN leaves a gap there.
        values = np.where(term.values > 0, term.values, np.nan)
        ax.plot(term.iterations, values, color=colors[name], alpha=0.3, linewidth=0.7)
        ax.plot(term.iterations, term.smoothed(), color=colors[name], linewidth=1.5)
    last = max(term.iterations[-1] for term in positive.values())
    ax.set_xlim(right=max(1, last))
    heights = [
        ax.transAxes.inverted().transform(ax.transData.transform((last, ends[n])))[1] for n in names
    ]
    for name, height in zip(names, _spread_labels(heights), strict=True):
        text = f"{name}  {ends[name]:.3g}"
        color = text_color(colors[name])
        ax.text(1.012, height, text, transform=ax.transAxes, color=color, fontsize=7.5, va="center")
    # The names are to the right of the axes, where GridSpec leaves no room.
    box = ax.get_position()
    ax.set_position((box.x0, box.y0, box.width * 0.87, box.height))


def _spread_labels(heights: Sequence[float]) -> list[float]:
    """Moves descending label heights apart.

    Each result is at least ``_LABEL_STEP`` below the previous one. All are between 0 and 1 if that
    range has room for them.
    """
    count = len(heights)
    placed: list[float] = []
    for number, height in enumerate(heights):
        highest = placed[-1] - _LABEL_STEP if placed else 1.0
        lowest = _LABEL_STEP * (count - 1 - number)
        placed.append(min(highest, max(lowest, height)))
    return placed


def _draw_metrics(ax: Axes, metrics: Mapping[str, Scalar]) -> None:
    """Draws one line with markers for each metric, with its last value in the legend."""
    if not metrics:
        _write_no_data(ax)
        return
    palette = [_SECOND, _FIRST, *PALETTE]
    markers = "osD^vP"
    for number, (name, scalar) in enumerate(metrics.items()):
        label = f"{name}  {scalar.values[-1]:.3f}"
        style = {"marker": markers[number % len(markers)], "markersize": 4, "linewidth": 1.6}
        ax.plot(scalar.iterations, scalar.values, color=palette[number], label=label, **style)
    ax.margins(y=0.25)
    # The axis starts at iteration 0, so that a single evaluation appears at its iteration.
    ax.set_xlim(0, 1.06 * max(1, *(scalar.iterations[-1] for scalar in metrics.values())))
    if all((scalar.values >= 0).all() for scalar in metrics.values()):
        ax.set_ylim(bottom=0)
    ax.legend(loc="lower right", frameon=False, fontsize=8, labelcolor=TEXT_COLOR)


def _write_no_data(ax: Axes) -> None:
    """Marks a panel without values."""
    style = {"ha": "center", "va": "center", "transform": ax.transAxes}
    ax.text(0.5, 0.5, "no data yet", color=_MUTED, fontsize=8.5, **style)
    ax.set(xticks=[], yticks=[], xlabel="")
