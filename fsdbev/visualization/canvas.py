"""Pages, colours and legends that all pictures share.

A page is a matplotlib figure; places on it are in inches from its lower left corner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

DPI = 150
_FONT_SIZE = 8
_CLASS_WIDTH = 1.25  # inches of a class in the legend

#: Colours of classes by position, found by search: the CIE76 difference between any two of them,
#: and to white, is at least 44 for normal sight and 20 under simulated protanopia and deuteranopia
#: (Machado et al. 2009).
PALETTE = (
    "#FEB30B",
    "#FF552F",
    "#F5FF73",
    "#FFAAFE",
    "#E927AB",
    "#64C4A4",
    "#005EF5",
    "#0D9AFC",
    "#23D667",
    "#B55C61",
)
#: Factor on the brightness of the palette for each time that it is used again.
_DARKER = 0.65
TRUTH_COLOR = "#FFFFFF"
BACKGROUND = "#15181C"
GRID_COLOR = "#4A525C"
TEXT_COLOR = "#E8EAED"
RING_TEXT_COLOR = "#9AA3AD"
FIELD_OF_VIEW_COLOR = "#B8C4D0"
TRAIL_COLOR = "#B8C4D0"
#: Colour of labelled points that belong to no class.
BACKGROUND_POINT_COLOR = "#8B95A1"


def new_page(width: float, height: float) -> Figure:
    """Creates a dark page of ``width`` x ``height`` inches."""
    # Not pyplot: it would choose a display backend and keep every figure alive.
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Adds axes that fill a rectangle, given in inches from the page's lower left corner."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def write(figure: Figure, x: float, y: float, text: str, size: float = 8, **style) -> None:
    """Writes text that starts at x and is centred vertically on y, in inches.

    ``style`` is passed on to :meth:`matplotlib.figure.Figure.text`.
    """
    style = {"color": TEXT_COLOR, "va": "center", **style}
    figure.text(x, y, text, fontsize=size, transform=figure.dpi_scale_trans, **style)


def pixels_of(figure: Figure) -> np.ndarray:
    """Renders the page as an (H, W, 3) uint8 RGB image."""
    figure.canvas.draw()
    # A copy, because the canvas overwrites its buffer at the next draw.
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def colors_of(class_names: Sequence[str]) -> list[str]:
    """Returns a colour for each class: the palette in order, then darker rounds of it."""
    rounds_and_places = [divmod(i, len(PALETTE)) for i in range(len(class_names))]
    return [to_hex(_DARKER**n * np.array(to_rgb(PALETTE[i]))) for n, i in rounds_and_places]


def round_distances(farthest: float) -> np.ndarray:
    """Returns up to seven round numbers of metres from 0 to ``farthest``, for rings and scales."""
    values = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(0, farthest)
    # The margin includes ``farthest`` itself.
    return values[values <= farthest + 1e-6]


def text_color(color: str) -> str:
    """Returns a lighter shade of ``color``, legible as small letters on a dark background."""
    return to_hex(0.6 * np.array(to_rgb(color)) + 0.4)


def draw_legend(
    figure: Figure, entries: Sequence[Artist], loc: str, at: tuple[float, float], columns: int
) -> None:
    """Draws a legend without a frame.

    Args:
        figure: the page.
        entries: artists with labels.
        loc: corner or side of the legend that ``at`` refers to, such as "center right".
        at: x, y in inches.
        columns: number of columns.
    """
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
    """Draws the legend of class colours, centred at x, y inches.

    The legend wraps into several rows where one row is wider than ``width`` inches.
    """
    patches = [
        Patch(facecolor=color, label=name.replace("_", " "))
        for name, color in zip(class_names, colors_of(class_names), strict=True)
    ]
    columns = max(1, min(len(patches), int(width / _CLASS_WIDTH)))
    draw_legend(figure, patches, "center", at, columns)
