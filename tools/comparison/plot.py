"""Plot of a comparison: metrics of each config with intervals, and differences between configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsdbev.utils.atomic_write import atomic_write

_COLORS = {"mAP": "#005EF5", "NDS": "#B0490F"}


def write_plot(content: dict[str, Any], path: Path) -> None:
    """Writes the plot of a report's content as PNG."""
    with atomic_write(path) as file:
        draw(content).savefig(file, format="png", dpi=130)


def draw(content: dict[str, Any]) -> Figure:
    """Draws one row per config in the given order, mAP on the left and NDS on the right, and below
    one row per pair."""
    configs, pairs = content["configs"], content["pairs"]
    heights = [len(configs) + 1]
    if pairs:
        heights.append(len(pairs) + 1)
    figure = Figure(figsize=(9.5, 1.0 + 0.36 * sum(heights)), layout="constrained")
    grid = figure.subplots(
        len(heights), 2, sharey="row", squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axes, metric in zip(grid[0], _COLORS, strict=True):
        for place, row in enumerate(configs):
            values = [100 * value for value in row["values"][metric]]
            axes.scatter(values, [place] * len(values), s=22, color=_COLORS[metric], alpha=0.5)
            _draw_interval(axes, place, row["intervals"][metric], metric)
        _style(axes, f"{metric} (%)", [row["name"] for row in configs])
    if pairs:
        names = [f"{pair['name']} over {pair['over']}" for pair in pairs]
        for axes, metric in zip(grid[1], _COLORS, strict=True):
            for place, pair in enumerate(pairs):
                _draw_interval(axes, place, pair[metric], metric, sign="+")
            axes.axvline(0, color="#57606A", linewidth=1)
            _style(axes, f"Difference of {metric}", names)
    settings = content["settings"]
    figure.suptitle(
        f"{settings['iterations']} iterations of {settings['batch']} samples on {settings['data']}."
        " Lines: 95 % intervals. Dots: seeds",
        fontsize=10,
    )
    return figure


def _draw_interval(
    axes: Axes, place: int, found: dict[str, Any] | None, metric: str, sign: str = ""
) -> None:
    """Draws mean and interval of one row, in percent; nothing for None."""
    if found is None:
        return
    mean, half = 100 * found["mean"], 100 * found["half"]
    axes.hlines(place, mean - half, mean + half, color=_COLORS[metric], linewidth=2)
    axes.plot(mean, place, marker="|", color=_COLORS[metric], markersize=14, markeredgewidth=2.5)
    axes.annotate(
        f"{mean:{sign}.1f}",
        (1.02, place),
        xycoords=("axes fraction", "data"),
        va="center",
        color=_COLORS[metric],
        fontweight="bold",
    )


def _style(axes: Axes, title: str, names: list[str]) -> None:
    """Sets title, names and grid; the first row is on top."""
    axes.set_title(title, fontsize=11, fontweight="bold")
    axes.grid(color="#D8DEE4", linewidth=0.8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
