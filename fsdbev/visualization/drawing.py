"""Box styles, labels and velocity arrows, shared by camera images and BEV views.

Shapes: M boxes, A arrows, K points of a line or polygon.
"""

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

#: Dark rim around lines: colour, and points that it adds to the line's width.
_RIM_COLOR, _RIM_WIDTH = to_rgba(BACKGROUND, 0.5), 0.9

#: Fraction of a label's extent to the left of, or below, its anchor, by alignment.
_ALIGNMENT_FRACTION = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
_PLATE_PAD = 0.8  # points between the letters and the border of their dark plate
_OUTWARD = np.array([-1, -1, 1, 1])  # signs that enlarge (left, bottom, right, top)

#: A velocity arrow is as long as the distance that the object covers in this time.
ARROW_SECONDS = 1.0
_MIN_SPEED = 0.5  # m/s; slower objects get no arrow
#: Arrow head: length as a fraction of the arrow's, bounds of it in metres, half the opening angle.
_HEAD_FRACTION, _HEAD_LENGTH, _HEAD_ANGLE = 0.3, (0.4, 1.5), np.radians(28)


@dataclass(frozen=True)
class BoxStyle:
    """Style of a set of boxes and of their velocity arrows.

    Attributes:
        color: one colour for all boxes, or None for class colours.
        dashes: matplotlib line style.
        width: line width in points; the edges of the front face are drawn wider.
        fill: opacity of the front face.
        labelled: whether class and score are written next to the box.
        order: drawing order; higher values are drawn on top.
    """

    color: str | None
    dashes: str | tuple[float, tuple[float, ...]]
    width: float
    fill: float
    labelled: bool
    order: int

    def colors(self, labels: Iterable[int], class_names: Sequence[str]) -> list[str]:
        """Returns the colour of each class index in ``labels``."""
        if self.color is not None:
            return [self.color for _ in labels]
        palette = colors_of(class_names)
        return [palette[label] for label in labels]


PREDICTION = BoxStyle(color=None, dashes="solid", width=1.1, fill=0.30, labelled=True, order=4)
#: Ground truth drawn under predictions.
TRUTH = BoxStyle(
    color=TRUTH_COLOR, dashes=(0, (3, 2)), width=0.8, fill=0.0, labelled=False, order=3
)
#: Ground truth drawn without predictions.
TRUTH_ONLY = BoxStyle(color=None, dashes="solid", width=1.0, fill=0.30, labelled=True, order=4)


def outline(width: float) -> list[patheffects.AbstractPathEffect]:
    """Returns path effects that draw a dark rim around lines of ``width`` points."""
    return [patheffects.withStroke(linewidth=width + 1.0, foreground=BACKGROUND, alpha=0.7)]


def add_lines(
    ax: Axes,
    lines: Sequence[np.ndarray],
    colors: Sequence[str],
    widths: float | np.ndarray,
    style: BoxStyle,
) -> None:
    """Draws lines on dark rims, which keep them visible on any background.

    Args:
        ax: axes to draw on.
        lines: (K, 2) points of each line, in data coordinates; later lines cover earlier ones.
        colors: colour of each line.
        widths: widths in points, one for all lines or one for each.
        style: provides the dashes and the drawing order.
    """
    widths = np.broadcast_to(widths, len(lines))
    faces = to_rgba_array(colors) if len(lines) else np.zeros((0, 4))
    # Rims are separate lines, since path effects would draw line by line in Python. Rim and line
    # alternate, so that the rim of a later line covers the lines before it.
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
    """Fills polygons of (K, 2) points, just below the lines of ``style``."""
    filling = PolyCollection(
        polygons, facecolors=colors, alpha=style.fill, zorder=style.order - 0.5
    )
    ax.add_collection(filling, autolim=False)


def label_text(detections: LabelledBoxes, index: int, class_names: Sequence[str]) -> str:
    """Returns the class name of a box and, for predictions, the score in percent."""
    name = class_names[int(detections.labels[index])].replace("_", " ")
    if detections.scores is None:
        return name
    return f"{name} {100 * float(detections.scores[index]):.0f}"


class LabelPlacer:
    """Writes labels on dark plates without overlaps.

    A label is written only where it overlaps no other label and no reserved area and fits into the
    axes.

    Args:
        ax: axes with their final limits.
    """

    def __init__(self, ax: Axes) -> None:
        # Without this the extent of axes with a fixed aspect is known only after the first draw.
        ax.apply_aspect()
        self._ax = ax
        self._inside = ax.get_window_extent().extents
        self._renderer = ax.figure.canvas.get_renderer()
        self._taken = np.zeros((0, 4))

    def reserve(self, areas: np.ndarray) -> None:
        """Keeps areas free of labels.

        Args:
            areas: (K, 4) left, bottom, right, top in data coordinates.
        """
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
        """Writes ``text`` at the first anchor where the label fits.

        Args:
            text: the label.
            anchors: (x, y, horizontal alignment, vertical alignment), x and y in data coordinates.
            color: colour of the letters.
            size: font size in points.
            opacity: opacity of the plate behind the letters.

        Returns:
            Whether the label was written.
        """
        label = self._ax.text(0, 0, text, color=color, fontsize=size, zorder=6)
        plate = {"facecolor": BACKGROUND, "alpha": opacity, "linewidth": 0, "pad": _PLATE_PAD}
        label.set_bbox(plate)
        # Measuring lays out the text, which is slow: one extent serves all anchors.
        extent = label.get_window_extent(self._renderer)
        pad = _PLATE_PAD * self._ax.figure.dpi / 72
        points = self._ax.transData.transform([anchor[:2] for anchor in anchors])
        for (x, y), (*where, horizontal, vertical) in zip(points, anchors, strict=True):
            left = x - _ALIGNMENT_FRACTION[horizontal] * extent.width
            bottom = y - _ALIGNMENT_FRACTION[vertical] * extent.height
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
        # The letters must be inside the axes; the plate's padding counts for overlaps only.
        inside = (area[:2] >= self._inside[:2]).all() and (area[2:] <= self._inside[2:]).all()
        area = area + pad * _OUTWARD
        overlaps = (area[:2] < self._taken[:, 2:]) & (area[2:] > self._taken[:, :2])
        return bool(inside) and not overlaps.all(axis=1).any()


def velocity_arrows(boxes: Boxes3D) -> tuple[np.ndarray, np.ndarray]:
    """Computes arrows from the bottom centre of moving boxes to its place ``ARROW_SECONDS`` later.

    Args:
        boxes: M boxes with velocities in m/s.

    Returns:
        (A, 3, 2, 3) segments in metres, in the frame of the boxes: the shaft and both sides of the
        head; and the (A,) box index of each arrow.
    """
    values = boxes.tensor.double().cpu().numpy()
    speed = np.linalg.norm(values[:, 7:9], axis=1)
    owner = np.flatnonzero(speed >= _MIN_SPEED)
    start = values[owner, :3]
    start[:, 2] -= values[owner, 5] / 2
    shaft = np.zeros_like(start)
    shaft[:, :2] = ARROW_SECONDS * values[owner, 7:9]
    tip = start + shaft
    length = np.clip(_HEAD_FRACTION * ARROW_SECONDS * speed[owner], *_HEAD_LENGTH)
    back = -shaft * (length / np.linalg.norm(shaft, axis=1).clip(1e-9))[:, None]
    segments = [(start, tip)]
    for angle in (-_HEAD_ANGLE, _HEAD_ANGLE):
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        segments.append((tip, tip + back @ turn.T))
    return np.stack([np.stack(ends, axis=1) for ends in segments], axis=1), owner
