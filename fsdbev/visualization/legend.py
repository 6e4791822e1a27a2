"""What lines and colours mean, written on a page."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Patch

from .palette import TEXT_COLOR, colors_of

_FONT_SIZE = 8
_CLASS_WIDTH = 1.25  # inches


def draw_legend(
    figure: Figure, entries: Sequence[Artist], loc: str, at: tuple[float, float], columns: int
) -> None:
    """Entries with their labels, whose ``loc`` ("center right") is at x, y inches."""
    legend = Legend(
        figure,
        entries,
        [entry.get_label() for entry in entries],
        loc=loc,
        bbox_to_anchor=at,
        bbox_transform=figure.dpi_scale_trans,
        ncols=columns,
        fontsize=_FONT_SIZE,
        frameon=False,
        labelcolor=TEXT_COLOR,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.2,
        borderpad=0,
        borderaxespad=0,
        labelspacing=0.25,
    )
    figure.add_artist(legend)


def draw_class_legend(
    figure: Figure, at: tuple[float, float], width: float, class_names: Sequence[str]
) -> None:
    """The classes' colours with their middle at x, y inches; in several rows where ``width`` inches
    are too few."""
    patches = [
        Patch(facecolor=color, label=name.replace("_", " "))
        for name, color in zip(class_names, colors_of(class_names), strict=True)
    ]
    columns = max(1, min(len(patches), int(width / _CLASS_WIDTH)))
    draw_legend(figure, patches, "center", at, columns)
