"""How boxes look, and labels that do not run into each other; shared by all views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.transforms import Bbox

from .palette import BACKGROUND, TRUTH_COLOR, colors_of
from .views import LabelledBoxes


@dataclass(frozen=True)
class BoxStyle:
    """Look of a set of boxes.

    Attributes:
        color: one colour for all, or None for class colours.
        dashes: matplotlib line style.
        width: line width in points; the heading side is drawn wider.
        fill: opacity of the heading face's filling.
        labelled: whether class and score are written beside the box.
        order: drawing order; higher lies on top.
    """

    color: str | None
    dashes: str | tuple[float, tuple[float, ...]]
    width: float
    fill: float
    labelled: bool
    order: int

    def colors(self, labels: Iterable[int], class_names: Sequence[str]) -> list[str]:
        """A colour for each label."""
        if self.color is not None:
            return [self.color for _ in labels]
        palette = colors_of(class_names)
        return [palette[label] for label in labels]


PREDICTION = BoxStyle(color=None, dashes="solid", width=1.1, fill=0.30, labelled=True, order=4)
#: Ground truth behind predictions.
TRUTH = BoxStyle(
    color=TRUTH_COLOR, dashes=(0, (3, 2)), width=0.8, fill=0.0, labelled=False, order=3
)
#: Ground truth on its own.
TRUTH_ALONE = BoxStyle(color=None, dashes="solid", width=1.0, fill=0.30, labelled=True, order=4)


def outline(width: float) -> list[patheffects.AbstractPathEffect]:
    """A dark rim for lines and letters of ``width`` points, so that they show on any ground."""
    return [patheffects.withStroke(linewidth=width + 1.0, foreground=BACKGROUND, alpha=0.7)]


def add_filling(
    ax: Axes, polygons: Sequence[np.ndarray], colors: Sequence[str], style: BoxStyle
) -> None:
    """Fills (K, 2) polygons, just below the lines of their style."""
    filling = PolyCollection(
        polygons, facecolors=colors, alpha=style.fill, zorder=style.order - 0.5
    )
    ax.add_collection(filling, autolim=False)


def label_text(detections: LabelledBoxes, index: int, class_names: Sequence[str]) -> str:
    """Class name and, for predictions, score in per cent."""
    name = class_names[int(detections.labels[index])].replace("_", " ")
    if detections.scores is None:
        return name
    return f"{name} {100 * float(detections.scores[index]):.0f}"


class LabelPlacer:
    """Writes labels into one axes, each only where it meets no other and stays inside."""

    def __init__(self, ax: Axes) -> None:
        ax.apply_aspect()
        self._ax = ax
        self._inside = ax.get_window_extent()
        self._renderer = ax.figure.canvas.get_renderer()
        self._taken: list[Bbox] = []

    def reserve(self, area: Bbox) -> None:
        """Keeps an area (display pixels) free of labels."""
        self._taken.append(area)

    def place(
        self,
        text: str,
        anchors: Sequence[tuple[float, float, str, str]],
        color: str,
        size: float,
        on_plate: bool = False,
    ) -> bool:
        """Writes ``text`` at the first of ``anchors`` where there is room.

        Args:
            anchors: (x, y, horizontal, vertical alignment) in data coordinates.
            size: font size in points.
            on_plate: on a dark plate, for the most important words.

        Returns:
            Whether it was written.
        """
        label = self._ax.text(
            0, 0, text, color=color, fontsize=size, path_effects=outline(1.0), zorder=6
        )
        if on_plate:
            plate = {"facecolor": BACKGROUND, "alpha": 0.6, "linewidth": 0, "pad": 1.5}
            label.set_bbox(plate)
        for x, y, horizontal, vertical in anchors:
            label.set(x=x, y=y, ha=horizontal, va=vertical)
            area = label.get_window_extent(self._renderer)
            if self._is_free(area):
                self._taken.append(area)
                return True
        label.remove()
        return False

    def _is_free(self, area: Bbox) -> bool:
        inside = (
            self._inside.x0 <= area.x0
            and area.x1 <= self._inside.x1
            and self._inside.y0 <= area.y0
            and area.y1 <= self._inside.y1
        )
        return inside and not area.count_overlaps(self._taken)
