"""Pages that pictures are drawn on, measured in inches from their lower left corner."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .palette import BACKGROUND, TEXT_COLOR

DPI = 150


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
