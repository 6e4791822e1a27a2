"""A picture of a comparison: mAP and NDS of each config, its mean and each of its seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsdbev.utils.atomic_write import atomic_write

_COLORS = {"mAP": "#005EF5", "NDS": "#B0490F"}
#: Percent that an axis shows at least, so that noise does not look like a difference.
_LEAST_SPAN = 2.0
_INK, _GRID = "#24292F", "#D8DEE4"


def write_plot(content: dict[str, Any], path: Path) -> None:
    """As PNG."""
    figure = draw(content)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=150)


def draw(content: dict[str, Any]) -> Figure:
    """A row a config, in the order given; on the left mAP, on the right NDS, in percent."""
    rows = content["configs"]
    figure = Figure(figsize=(9.0, 1.5 + 0.5 * len(rows)), layout="constrained", facecolor="white")
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), _COLORS, strict=True):
        for place, row in enumerate(rows):
            _draw_row(axes, place, row, metric)
        _style(axes, metric, len(rows))
    figure.axes[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
    figure.axes[0].set_ylim(len(rows) - 0.5, -0.5)  # the first config on top
    figure.suptitle(_caption(content), fontsize=10, color=_INK)
    return figure


def _caption(content: dict[str, Any]) -> str:
    settings, seeds = content["settings"], ", ".join(map(str, content["seeds"]))
    text = f"{settings['iterations']} iterations of {settings['batch']} samples on "
    text += f"{settings['data']}.  "
    if len(content["seeds"]) == 1:
        return f"{text}Seed {seeds}."
    return f"{text}Dots: seeds {seeds}.  Line: their mean."


def _draw_row(axes: Axes, place: int, row: dict[str, Any], metric: str) -> None:
    spread = row["metrics"].get(metric)
    if spread is None:
        return
    color = _COLORS[metric]
    mean, lowest, highest = (100 * spread[name] for name in ("mean", "lowest", "highest"))
    values = [100 * run["metrics"][metric] for run in row["runs"]]
    axes.plot([lowest, highest], [place, place], color=color, alpha=0.35, linewidth=3, zorder=2)
    axes.plot([mean, mean], [place - 0.24, place + 0.24], color=color, linewidth=2.5, zorder=3)
    axes.scatter(
        values, [place] * len(values), s=34, color=color, alpha=0.75, edgecolors="white", zorder=4
    )
    deviation = spread["deviation"]
    axes.annotate(
        f"{mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}"),
        (1.02, place),
        xycoords=("axes fraction", "data"),
        va="center",
        color=color,
        fontweight="bold",
    )


def _style(axes: Axes, metric: str, num_rows: int) -> None:
    axes.set_title(f"{metric} (%)", color=_INK, fontsize=11, fontweight="bold")
    low, high = axes.get_xlim()
    pad = max(0.0, _LEAST_SPAN - (high - low)) / 2
    axes.set_xlim(low - pad, high + pad)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.hlines(
        range(num_rows),
        0,
        1,
        transform=axes.get_yaxis_transform(),
        color=_GRID,
        linewidth=0.8,
        zorder=1,
    )
    axes.tick_params(length=0, colors=_INK)
    for side in axes.spines.values():
        side.set_visible(False)
