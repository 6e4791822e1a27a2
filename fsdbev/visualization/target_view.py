"""Training targets drawn on images and in BEV: labelled points, heatmaps and 2D boxes.

Shapes: P labelled points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap, Normalize, to_rgb, to_rgba_array
from matplotlib.patches import Rectangle

from fsdbev.data.labels.point_labels import BACKGROUND, GROUPS
from fsdbev.data.transforms.foreground_targets import HEATMAP_STRIDE
from fsdbev.structures import BEVGrid

from .bev_view import to_view
from .canvas import BACKGROUND_POINT_COLOR, TEXT_COLOR, colors_of
from .drawing import outline
from .views import LabelPoints, TargetView

#: Near is red, far is blue. Leaves out the ends of turbo, which are too dark for a dark background.
DEPTH_COLORS = ListedColormap(matplotlib.colormaps["turbo"](np.linspace(0.90, 0.10, 256)))


@dataclass(frozen=True)
class PointStyle:
    """Marker of one or several groups of labelled points; sizes in points (1/72 inch).

    Attributes:
        name: name in the legend.
        groups: names of groups of ``PointLabels``.
        marker: matplotlib marker.
        size: diameter.
        line: width of the marker's line, 0 for a filled marker.
    """

    name: str
    groups: tuple[str, ...]
    marker: str
    size: float
    line: float

    def of(self, points: LabelPoints) -> np.ndarray:
        """Returns a (P,) bool mask of the points in this style's groups."""
        return np.isin(points.groups, [GROUPS.index(name) for name in self.groups])


POINT_STYLES = (
    PointStyle("point of the sample's sweep", ("sweep",), "o", 1.3, 0),
    PointStyle("combined: point of a neighbouring sweep", ("combined",), "o", 2.5, 0.45),
    PointStyle(
        "pseudo point of an object without points", ("pseudo", "pseudo_uncombined"), "X", 6.5, 1.3
    ),
)


def depth_colors(points: LabelPoints, scale: Normalize) -> np.ndarray:
    """Returns the (P, 4) RGBA colours of the points by depth on a scale of metres."""
    return DEPTH_COLORS(scale(points.depth))


def class_colors(points: LabelPoints, class_names: Sequence[str]) -> np.ndarray:
    """Returns the (P, 4) RGBA colours of the points by class."""
    # Background has class index -1, which picks the last colour.
    palette = to_rgba_array([*colors_of(class_names), BACKGROUND_POINT_COLOR])
    return palette[points.class_ids]


def draw_points(ax: Axes, xy: np.ndarray, points: LabelPoints, colors: np.ndarray) -> None:
    """Draws points with the marker of their group, pseudo points on top.

    Args:
        ax: axes to draw on.
        xy: (P, 2) places in data coordinates.
        points: groups and classes of the points; foreground covers background of the same group.
        colors: (P, 4) colours.
    """
    for order, style in enumerate(POINT_STYLES):
        for is_class in (False, True):
            chosen = style.of(points) & ((points.class_ids != BACKGROUND) == is_class)
            if chosen.any():
                _scatter(ax, xy[chosen], colors[chosen], style, zorder=2 + order + 0.1 * is_class)


def _scatter(
    ax: Axes, xy: np.ndarray, colors: np.ndarray, style: PointStyle, zorder: float
) -> None:
    """Draws points of one style: rings, filled markers, or filled markers with a dark rim."""
    ring = style.line > 0 and style.marker == "o"
    ax.scatter(
        *xy.T,
        s=style.size**2,
        marker=style.marker,
        facecolors="none" if ring else colors,
        edgecolors=colors if ring else TEXT_COLOR,
        linewidths=style.line if ring else 0.5 * style.line,
        path_effects=None if ring or not style.line else outline(style.line),
        zorder=zorder,
    )


def draw_heatmap(ax: Axes, view: TargetView, class_names: Sequence[str]) -> None:
    """Overlays the strongest class of each heatmap cell in its colour, and outlines 2D boxes."""
    palette = np.array([to_rgb(color) for color in colors_of(class_names)])
    colors = palette[view.heatmap.argmax(axis=0)]
    overlay = np.concatenate([colors, 0.85 * view.heatmap.max(axis=0)[..., None]], axis=-1)
    rows, columns = overlay.shape[:2]
    extent = (0, HEATMAP_STRIDE * columns, HEATMAP_STRIDE * rows, 0)
    ax.imshow(overlay, extent=extent, interpolation="nearest", zorder=2, aspect="auto")
    frames = PolyCollection(
        list(view.outlines),
        facecolors="none",
        edgecolors=palette[view.outline_labels],
        linewidths=0.7,
        path_effects=outline(0.5),
        zorder=3,
    )
    ax.add_collection(frames, autolim=False)


def draw_points_on_bev(ax: Axes, view: TargetView, class_names: Sequence[str]) -> None:
    """Draws the labelled points of one camera in BEV, coloured by class."""
    colors = class_colors(view.points, class_names)
    draw_points(ax, to_view(view.points_in_keyego()[:, :2]), view.points, colors)


def draw_grid(ax: Axes, grid: BEVGrid) -> None:
    """Draws the border of the BEV grid."""
    # y points left on the page, so its lower left corner is the smallest x and the largest y.
    low = to_view(np.array([grid.x_range[0], grid.y_range[1]]))
    depth, width = np.ptp(grid.x_range), np.ptp(grid.y_range)
    ax.add_patch(Rectangle(low, width, depth, fill=False, edgecolor=TEXT_COLOR, lw=0.9, ls=":"))
