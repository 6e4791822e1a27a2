"""Pages that pictures are drawn on, measured in inches from their lower left corner."""

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

DPI = 150


#: Found by search: CIE76 differences of at least 44 for normal sight and 20 under simulated
#: protanopia and deuteranopia (Machado et al. 2009), between each two and to white.
CLASS_COLORS = {
    "car": "#FEB30B",
    "truck": "#FF552F",
    "construction_vehicle": "#F5FF73",
    "bus": "#FFAAFE",
    "trailer": "#E927AB",
    "barrier": "#64C4A4",
    "motorcycle": "#005EF5",
    "bicycle": "#0D9AFC",
    "pedestrian": "#23D667",
    "traffic_cone": "#B55C61",
}
TRUTH_COLOR = "#FFFFFF"
BACKGROUND = "#15181C"
GRID_COLOR = "#4A525C"
TEXT_COLOR = "#E8EAED"
RING_TEXT_COLOR = "#9AA3AD"
FIELD_OF_VIEW_COLOR = "#B8C4D0"
TRAIL_COLOR = "#B8C4D0"
#: Labelled points of no class.
BACKGROUND_POINT_COLOR = "#8B95A1"
_FONT_SIZE = 8
_CLASS_WIDTH = 1.25  # inches


def new_page(width: float, height: float) -> Figure:
    """A dark page of ``width`` x ``height`` inches; needs no display."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes that fill this rectangle, inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def write(figure: Figure, x: float, y: float, text: str, size: float = 8, **style) -> None:
    """Text that begins at x and is centred on y, inches; ``style`` goes to matplotlib."""
    style = {"color": TEXT_COLOR, "va": "center", **style}
    figure.text(x, y, text, fontsize=size, transform=figure.dpi_scale_trans, **style)


def pixels_of(figure: Figure) -> np.ndarray:
    """(H, W, 3) uint8 RGB picture of the page."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def colors_of(class_names: Sequence[str]) -> list[str]:
    """A colour for each class: its own for nuScenes' classes, else the palette in order."""
    spare = list(CLASS_COLORS.values())
    return [CLASS_COLORS.get(name, spare[i % len(spare)]) for i, name in enumerate(class_names)]


def text_color(color: str) -> str:
    """A lighter shade of ``color``, in which small letters can be read on a dark ground."""
    return to_hex(0.6 * np.array(to_rgb(color)) + 0.4)


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
