"""Boxes from above: x forward is up, y left is left, rings of distance around the ego."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle, Polygon

from .drawing import BoxStyle, LabelPlacer, add_filling, label_text, outline
from .palette import BACKGROUND, GRID_COLOR, TEXT_COLOR, text_color
from .views import LabelledBoxes

RING_STEP = 10.0  # metres
VELOCITY_SECONDS = 1.0  # a velocity line is as long as the way made in this time
_MIN_SPEED = 0.5  # m/s; slower objects get no velocity line
_FONT_SIZE = 5.0


def to_view(points: np.ndarray) -> np.ndarray:
    """(..., 2) x forward, y left -> (..., 2) right, up on the page, metres."""
    return np.stack([-points[..., 1], points[..., 0]], axis=-1)


def draw_bev(ax: Axes, *, reach: float) -> LabelPlacer:
    """Prepares axes for ``[-reach, reach]`` metres with rings and the ego; returns the placer."""
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
    ax.set_aspect("equal")
    ax.set_facecolor(BACKGROUND)
    ax.spines[:].set_color(GRID_COLOR)
    line = {"color": GRID_COLOR, "linewidth": 0.6, "zorder": 1}
    ax.plot([-reach, reach], [0, 0], **line)
    ax.plot([0, 0], [-reach, reach], **line)
    ego = Polygon(
        [(-1.0, -1.5), (0.0, 3.0), (1.0, -1.5), (0.0, -0.6)], facecolor=TEXT_COLOR, zorder=5
    )
    ax.add_patch(ego)
    placer = LabelPlacer(ax)
    for radius in np.arange(RING_STEP, reach + 1e-6, RING_STEP):
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=GRID_COLOR, lw=0.6, zorder=1))
        where = radius * np.sqrt(0.5)
        placer.place(f"{radius:.0f} m", [(where, -where, "left", "top")], "#9AA3AD", 5.0)
    placer.reserve(ego.get_window_extent(ax.figure.canvas.get_renderer()))
    return placer


def draw_boxes_on_bev(
    ax: Axes,
    detections: LabelledBoxes,
    *,
    style: BoxStyle,
    class_names: Sequence[str],
    placer: LabelPlacer,
) -> int:
    """Draws the footprints whose centre is inside the axes, heading side wider, velocity as a line.

    Args:
        ax: axes that :func:`draw_bev` prepared.
        placer: what :func:`draw_bev` returned; labels without room are left out.

    Returns:
        How many boxes were drawn.
    """
    centers = to_view(detections.boxes.centers[:, :2].cpu().numpy())
    reach = max(ax.get_xlim())
    shown = np.flatnonzero((np.abs(centers) <= reach).all(axis=1))
    footprints = to_view(detections.boxes.corners()[:, [0, 2, 6, 4], :2].cpu().numpy())
    colors = style.colors(detections.labels.tolist(), class_names)

    # Corner order: rear right, rear left, front left, front right; the side 2-3 heads forward.
    outlines = np.concatenate([footprints, footprints[:, :1]], axis=1)[shown]
    shown_colors = [colors[i] for i in shown]
    _add_lines(ax, outlines, shown_colors, style.width, style)
    _add_lines(ax, footprints[shown][:, 2:4], shown_colors, 2.2 * style.width, style)
    _add_velocities(ax, detections, shown, shown_colors, style)
    if style.fill:
        add_filling(ax, footprints[shown], shown_colors, style)
    if style.labelled:
        inside = set(shown.tolist())
        for i in (i for i in detections.by_priority() if i in inside):
            anchors = _anchors(footprints[i])
            text = label_text(detections, i, class_names)
            placer.place(text, anchors, text_color(colors[i]), _FONT_SIZE)
    return len(shown)


def _add_lines(
    ax: Axes, lines: np.ndarray, colors: list[str], width: float, style: BoxStyle
) -> None:
    collection = LineCollection(
        list(lines),
        colors=colors,
        linewidths=width,
        linestyles=[style.dashes],
        path_effects=outline(0.7 * width),
        zorder=style.order,
    )
    ax.add_collection(collection, autolim=False)


def _add_velocities(
    ax: Axes, detections: LabelledBoxes, shown: np.ndarray, colors: list[str], style: BoxStyle
) -> None:
    """A line from the centre over the way of the next second, for what moves."""
    velocity = to_view(detections.boxes.velocity.cpu().numpy())[shown]
    start = to_view(detections.boxes.centers[:, :2].cpu().numpy())[shown]
    moving = np.flatnonzero(np.linalg.norm(velocity, axis=1) >= _MIN_SPEED)
    lines = np.stack([start, start + VELOCITY_SECONDS * velocity], axis=1)[moving]
    _add_lines(ax, lines, [colors[i] for i in moving], 0.7 * style.width, style)


def _anchors(footprint: np.ndarray) -> list[tuple[float, float, str, str]]:
    """Where a label may stand: right, left, above or below the (4, 2) footprint."""
    (left, low), (right, high) = footprint.min(axis=0), footprint.max(axis=0)
    x, y = footprint.mean(axis=0)
    return [
        (right + 0.5, y, "left", "center"),
        (left - 0.5, y, "right", "center"),
        (x, high + 0.3, "center", "bottom"),
        (x, low - 0.3, "center", "top"),
    ]
