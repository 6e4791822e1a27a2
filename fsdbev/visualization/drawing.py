"""How boxes look, and labels that do not run into each other; shared by all views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba, to_rgba_array

from fsdbev.structures import Boxes3D, LabelledBoxes

from .canvas import BACKGROUND, TRUTH_COLOR, colors_of

#: Share of a label's extent that lies left of, or below, its anchor.
_SHARE = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
_RIM_COLOR, _RIM_WIDTH = to_rgba(BACKGROUND, 0.5), 0.9  # points beyond the line's width
_PLATE_PAD = 0.8  # points
_OUTWARD = np.array([-1, -1, 1, 1])  # of left, bottom, right, top
#: An arrow is as long as the way made in this time.
ARROW_SECONDS = 1.0
_MIN_SPEED = 0.5  # m/s; slower objects get no arrow
# Of the head: length as a share of the arrow's and its bounds in metres, half its opening.
_HEAD_SHARE, _HEAD_LENGTH, _HEAD_ANGLE = 0.3, (0.4, 1.5), np.radians(28)


@dataclass(frozen=True)
class BoxStyle:
    """Look of a set of boxes and of their velocity arrows.

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
    """A dark rim for lines of ``width`` points, so that they show on any ground."""
    return [patheffects.withStroke(linewidth=width + 1.0, foreground=BACKGROUND, alpha=0.7)]


def add_lines(
    ax: Axes,
    lines: Sequence[np.ndarray],
    colors: Sequence[str],
    widths: float | np.ndarray,
    style: BoxStyle,
) -> None:
    """Draws (K, 2) lines of these colours and widths (points), each on a dark rim over those before
    it, dashed as their style."""
    widths = np.broadcast_to(widths, len(lines))
    faces = to_rgba_array(colors) if len(lines) else np.zeros((0, 4))
    # Rims are lines of their own: path effects would draw line by line in Python.
    pairs = LineCollection(
        [line for line in lines for _ in range(2)],
        colors=np.stack([np.broadcast_to(_RIM_COLOR, faces.shape), faces], axis=1).reshape(-1, 4),
        linewidths=np.stack([widths + _RIM_WIDTH, widths], axis=1).ravel(),
        linestyles=["solid", style.dashes],
        capstyle="butt",
        zorder=style.order,
    )
    ax.add_collection(pairs, autolim=False)


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
    """Writes labels into one axes, on dark plates, each only where it meets no other and stays
    inside."""

    def __init__(self, ax: Axes) -> None:
        ax.apply_aspect()
        self._ax = ax
        self._inside = ax.get_window_extent().extents
        self._renderer = ax.figure.canvas.get_renderer()
        self._taken = np.zeros((0, 4))

    def reserve(self, areas: np.ndarray) -> None:
        """Keeps (K, 4) areas ``left, bottom, right, top`` in data coordinates free of labels."""
        corners = self._ax.transData.transform(areas.reshape(-1, 2)).reshape(-1, 2, 2)
        self._take(np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1))

    def place(
        self,
        text: str,
        anchors: Sequence[tuple[float, float, str, str]],
        color: str,
        size: float,
        opacity: float = 0.65,
    ) -> bool:
        """Writes ``text`` at the first of ``anchors`` where there is room.

        Args:
            anchors: (x, y, horizontal, vertical alignment) in data coordinates.
            size: font size in points.
            opacity: of the plate behind the letters.

        Returns:
            Whether it was written.
        """
        label = self._ax.text(0, 0, text, color=color, fontsize=size, zorder=6)
        plate = {"facecolor": BACKGROUND, "alpha": opacity, "linewidth": 0, "pad": _PLATE_PAD}
        label.set_bbox(plate)
        # Measured once, not laid out anew at each anchor.
        extent = label.get_window_extent(self._renderer)
        pad = _PLATE_PAD * self._ax.figure.dpi / 72
        points = self._ax.transData.transform([anchor[:2] for anchor in anchors])
        for (x, y), (*where, horizontal, vertical) in zip(points, anchors, strict=True):
            left = x - _SHARE[horizontal] * extent.width
            bottom = y - _SHARE[vertical] * extent.height
            area = np.array([left, bottom, left + extent.width, bottom + extent.height])
            if self._is_free(area, pad):
                label.set(x=where[0], y=where[1], ha=horizontal, va=vertical)
                self._take(area[None] + pad * _OUTWARD)
                return True
        label.remove()
        return False

    def _take(self, areas: np.ndarray) -> None:
        self._taken = np.concatenate([self._taken, areas])

    def _is_free(self, area: np.ndarray, pad: float) -> bool:
        inside = (area[:2] >= self._inside[:2]).all() and (area[2:] <= self._inside[2:]).all()
        area = area + pad * _OUTWARD
        meets = (area[:2] < self._taken[:, 2:]) & (area[2:] > self._taken[:, :2])
        return bool(inside) and not meets.all(axis=1).any()


def velocity_arrows(boxes: Boxes3D) -> tuple[np.ndarray, np.ndarray]:
    """What moves points where it will be in ``ARROW_SECONDS``, from the middle of its bottom.

    Returns:
        (A, 3, 2, 3) segments, metres in the boxes' frame: shaft and the two sides of the head; (A,)
        index of each arrow's box.
    """
    values = boxes.tensor.double().cpu().numpy()
    speed = np.linalg.norm(values[:, 7:9], axis=1)
    owner = np.flatnonzero(speed >= _MIN_SPEED)
    start = values[owner, :3]
    start[:, 2] -= values[owner, 5] / 2
    way = np.zeros_like(start)
    way[:, :2] = ARROW_SECONDS * values[owner, 7:9]
    tip = start + way
    length = np.clip(_HEAD_SHARE * ARROW_SECONDS * speed[owner], *_HEAD_LENGTH)
    back = -way * (length / np.linalg.norm(way, axis=1).clip(1e-9))[:, None]
    segments = [(start, tip)]
    for angle in (-_HEAD_ANGLE, _HEAD_ANGLE):
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        segments.append((tip, tip + back @ turn.T))
    return np.stack([np.stack(ends, axis=1) for ends in segments], axis=1), owner
