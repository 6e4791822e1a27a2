"""Plot of a comparison: mAP and NDS of each config, as mean and for each seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsdbev.utils.atomic_write import atomic_write

_COLORS = {"mAP": "#005EF5", "NDS": "#B0490F"}
#: Least range of an axis in percent, so that noise does not look like a difference.
_MIN_SPAN = 2.0


def write_plot(content: dict[str, Any], path: Path) -> None:
    """Writes the plot of a report's content as PNG."""
    with atomic_write(path) as file:
        draw(content).savefig(file, format="png", dpi=150)


def draw(content: dict[str, Any]) -> Figure:
    """Draws one row per config in the given order, with mAP on the left and NDS on the right."""
    rows, settings = content["configs"], content["settings"]
    figure = Figure(figsize=(9.0, 1.5 + 0.5 * len(rows)), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), _COLORS, strict=True):
        for place, row in enumerate(rows):
            if row["metrics"].get(metric):
                _draw_row(axes, place, row, metric)
        low, high = axes.get_xlim()
        pad = max(0.0, _MIN_SPAN - (high - low)) / 2
        axes.set_xlim(low - pad, high + pad)
        axes.set_title(f"{metric} (%)", fontsize=11, fontweight="bold")
        axes.grid(color="#D8DEE4", linewidth=0.8)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.axes[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
    figure.axes[0].set_ylim(len(rows) - 0.5, -0.5)  # the first config on top
    caption = f"{settings['iterations']} iterations of {settings['batch']} samples on "
    caption += f"{settings['data']}.  "
    seeds = ", ".join(map(str, content["seeds"]))
    caption += f"Dots: seeds {seeds}.  Line: their mean." if ", " in seeds else f"Seed {seeds}."
    figure.suptitle(caption, fontsize=10)
    return figure


def _draw_row(axes: Axes, place: int, row: dict[str, Any], metric: str) -> None:
    """Draws range, mean and seeds of one config."""
    color, spread = _COLORS[metric], row["metrics"][metric]
    values = [100 * run["metrics"][metric] for run in row["runs"]]
    mean = 100 * spread["mean"]
    axes.hlines(place, min(values), max(values), color=color, alpha=0.35, linewidth=3)
    axes.plot(mean, place, marker="|", color=color, markersize=18, markeredgewidth=2.5)
    axes.scatter(values, [place] * len(values), s=34, color=color, alpha=0.75, edgecolors="white")
    deviation = spread["deviation"]
    axes.annotate(
        f"{mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}"),
        (1.02, place),
        xycoords=("axes fraction", "data"),
        va="center",
        color=color,
        fontweight="bold",
    )
