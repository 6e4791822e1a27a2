"""Axes that fill a figure, its pixels, and a camera."""

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fsdbev.structures import make_transform

#: A forward-facing camera at the ego's origin.
CAM2EGO = make_transform(torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]))
INTRINSICS = torch.tensor([[200.0, 0, 100], [0, 200, 50], [0, 0, 1]])


def axes(width=200, height=100, scale=2):
    """Returns the axes of an image with ``scale`` figure pixels per image pixel."""
    figure = Figure(figsize=(width * scale / 100, height * scale / 100), dpi=100)
    FigureCanvasAgg(figure)
    return figure.add_axes((0, 0, 1, 1))


def pixels(ax):
    """Returns the figure as (rows, columns, 3) integers."""
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())[..., :3].astype(int)


def rgb(color):
    """Returns a colour of matplotlib in 0 .. 255."""
    return 255 * np.array(to_rgb(color))
