"""Charts of the report: precision over recall, TP errors, scores.

Shapes: C classes, R recalls, K matches, B score bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .svg import BAD, GOOD, GRID, INK, MUTED, OTHER, inline_svg, new_chart

#: Font sizes of labels and titles, points.
_LABEL, _TITLE = 8, 9.5
_ERROR_BINS = 24
#: Score bins with fewer predictions than this are drawn hollow, as their share is unreliable.
_MIN_PREDICTIONS = 20


@dataclass(frozen=True)
class ErrorKind:
    """One kind of true positive error.

    Attributes:
        name: name of the error, the chart's title.
        unit: unit of the values; "" for none.
        values: (K,) errors, not negative.
        limit: end of the axis; larger values count in the last bin.
    """

    name: str
    unit: str
    values: np.ndarray
    limit: float


def class_curves(
    names: Sequence[str],
    recall: np.ndarray,
    at_threshold: np.ndarray,
    mean: np.ndarray,
    notes: Sequence[str],
) -> str:
    """Draws a small precision-recall chart for each class.

    Args:
        names: C class names, the charts' titles.
        recall: (R,) recalls.
        at_threshold: (C, R) precision at one distance threshold.
        mean: (C, R) mean precision over all distance thresholds.
        notes: C lines of text below the titles.

    Returns:
        ``<svg>`` element.
    """
    columns = 5
    rows = math.ceil(len(names) / columns)
    figure = new_chart(11, 2.3 * rows)
    for number, name in enumerate(names):
        ax = _axes(figure, rows, columns, number + 1, name, pad=16)
        ax.text(0, 1.04, notes[number], fontsize=_LABEL, color=MUTED, transform=ax.transAxes)
        ax.fill_between(recall, at_threshold[number], color=GOOD, alpha=0.18, linewidth=0)
        ax.plot(recall, at_threshold[number], color=GOOD, linewidth=1.8)
        ax.plot(recall, mean[number], color=BAD, linewidth=1.3, linestyle=(0, (3, 2)))
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        if number % columns == 0:
            ax.set_ylabel("precision", fontsize=_LABEL, color=MUTED)
        if number + columns >= len(names):
            ax.set_xlabel("recall", fontsize=_LABEL, color=MUTED)
    return inline_svg(figure, "Precision over recall of every class")


def error_histograms(kinds: Sequence[ErrorKind]) -> str:
    """Draws a histogram with median for each kind of error; returns an ``<svg>`` element."""
    figure = new_chart(11, 2.5)
    for number, kind in enumerate(kinds):
        unit = f" ({kind.unit})" if kind.unit else ""
        ax = _axes(figure, 1, len(kinds), number + 1, kind.name + unit)
        counts, edges = np.histogram(
            np.clip(kind.values, 0, kind.limit), _ERROR_BINS, range=(0, kind.limit)
        )
        ax.bar(edges[:-1], counts, np.diff(edges), align="edge", color=GOOD, alpha=0.55)
        # Room for the text above the bars, and a height for charts without boxes.
        ax.set(xlim=(0, kind.limit), ylim=(0, 1.28 * max(1, counts.max())))
        ax.locator_params(axis="both", nbins=4)
        if len(kind.values):
            median = float(np.median(kind.values))
            ax.axvline(min(median, kind.limit), color=BAD, linewidth=1.5)
            text = f"median {median:.2g}\n{len(kind.values)} boxes"
        else:
            text = "no boxes"
        where = {"transform": ax.transAxes, "ha": "right", "va": "top"}
        ax.text(0.97, 0.96, text, fontsize=_LABEL, color=INK, **where)
        if number == 0:
            ax.set_ylabel("true positives", fontsize=_LABEL, color=MUTED)
    return inline_svg(figure, "Histograms of the true positive errors")


def score_charts(found: np.ndarray, false: np.ndarray, score: float) -> str:
    """Draws the numbers of true and false positives by score, and the share of true positives.

    Args:
        found: (B,) true positives in equal bins of scores from 0 to 1.
        false: (B,) false positives in the same bins.
        score: score threshold, drawn as a vertical line.

    Returns:
        ``<svg>`` element.
    """
    figure = new_chart(11, 2.7)
    edges = np.linspace(0, 1, len(found) + 1)
    ax = _axes(figure, 1, 2, 1, "predictions by score")
    for counts, color, style, name in (
        (false, BAD, (0, (3, 2)), "false positives"),
        (found, GOOD, "solid", "true positives"),
    ):
        ax.stairs(counts, edges, baseline=None, color=color, linestyle=style, lw=1.8, label=name)
    # symlog: a logarithmic scale that can show bins without predictions.
    ax.set(xlim=(0, 1), yscale="symlog", xlabel="score")
    # Room for the legend above the lines.
    ax.set_ylim(0, 3 * max(1, found.max(), false.max()))
    ax.legend(frameon=False, fontsize=_LABEL, labelcolor=INK, loc="upper right")
    share_ax = _axes(figure, 1, 2, 2, "share of true positives")
    _draw_shares(share_ax, found, false, edges)
    for axes in (ax, share_ax):
        axes.axvline(score, color=OTHER, linewidth=1.2)
        axes.xaxis.label.set(fontsize=_LABEL, color=MUTED)
    share_ax.text(score + 0.012, 1.0, f"score {score:.3f}", fontsize=_LABEL, color=OTHER, va="top")
    return inline_svg(figure, "Numbers of predictions by score, and the share of true positives")


def _draw_shares(ax: Axes, found: np.ndarray, false: np.ndarray, edges: np.ndarray) -> None:
    """Draws the share of true positives by score; points of few predictions are hollow."""
    total = found + false
    centers = (edges[1:] + edges[:-1]) / 2
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    known = total > 0
    share = found[known] / total[known]
    ax.plot(centers[known], share, color=GOOD, linewidth=1.2)
    few = total[known] < _MIN_PREDICTIONS
    ax.plot(centers[known][~few], share[~few], "o", color=GOOD, markersize=4.5)
    hollow = {"markerfacecolor": "none", "markeredgecolor": GOOD, "markersize": 4.5}
    ax.plot(centers[known][few], share[few], "o", **hollow)
    ax.set(xlim=(0, 1), ylim=(0, 1.04), xlabel="score")
    ax.yaxis.set_major_formatter(PercentFormatter(1))


def _axes(figure: Figure, rows: int, columns: int, number: int, title: str, pad: float = 6) -> Axes:
    """Adds axes in the page's colours, with a title ``pad`` points above them."""
    ax = figure.add_subplot(rows, columns, number)
    ax.set_title(title, fontsize=_TITLE, color=INK, loc="left", pad=pad)
    ax.patch.set_alpha(0)
    ax.grid(color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GRID)
    ax.tick_params(labelsize=_LABEL, color=GRID, labelcolor=MUTED, length=2)
    return ax
