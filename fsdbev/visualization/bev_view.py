"""BEV view: boxes, trails and fields of view seen from above, with distance rings around the ego.

On the page, x (forward) points up and y (left) points left.

Shapes: K points of a trail or polygon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import Circle, Polygon

from fsdbev.structures import BEVGrid, ClassSet, LabelledBoxes, transform_points

from .canvas import (
    BACKGROUND,
    FIELD_OF_VIEW_COLOR,
    GRID_COLOR,
    RING_TEXT_COLOR,
    TEXT_COLOR,
    round_distances,
    text_color,
)
from .drawing import BoxStyle, LabelPlacer, add_filling, add_lines, label_text, velocity_arrows
from .projection import unproject
from .views import CameraView

TRAIL_WIDTH = 1.2  # points
_FONT_SIZE, _RING_FONT_SIZE, _CAMERA_FONT_SIZE = 6.5, 6.0, 6.5
#: Arrow head that marks the ego: right, up on the page, metres.
_EGO = np.array([(-1.0, -1.5), (0.0, 3.0), (1.0, -1.5), (0.0, -0.6)])
#: Reach of a view in units of the largest range of the classes.
_CLASSES_MARGIN = 1.1
#: Odd, so that the middle ray goes through the image's centre; the camera's name is placed there.
_NUM_RAYS = 17  # rays that outline a camera's field of view


def to_view(points: np.ndarray) -> np.ndarray:
    """Converts (..., 2) x forward, y left to (..., 2) right, up on the page; metres."""
    return np.stack([-points[..., 1], points[..., 0]], axis=-1)


@dataclass(frozen=True)
class BEVArea:
    """Square on the ground that a BEV view shows, in key ego.

    Attributes:
        reach: half the side, metres.
        center: x, y of the middle, metres.
    """

    reach: float
    center: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of_grid(cls, grid: BEVGrid, margin: float = 1.0) -> BEVArea:
        """Returns the smallest square with the grid and the ego, enlarged by a factor."""
        ranges, ego = np.array([grid.x_range, grid.y_range]), np.abs(_EGO).max()
        lower, upper = np.minimum(ranges[:, 0], -ego), np.maximum(ranges[:, 1], ego)
        reach = margin * float((upper - lower).max()) / 2
        return cls(reach, center=tuple(((lower + upper) / 2).tolist()))

    @classmethod
    def of_classes(cls, classes: ClassSet) -> BEVArea:
        """Returns a square around the ego with all distances at which classes are evaluated."""
        return cls(_CLASSES_MARGIN * max(classes.ranges.values()))

    def on_page(self, right: float, up: float) -> np.ndarray:
        """Returns (2,) right, up on the page of a place that is given from -1 to 1 on both axes."""
        return to_view(np.array(self.center)) + self.reach * np.array([right, up])


def draw_bev(ax: Axes, *, area: BEVArea, views: Sequence[CameraView] = ()) -> LabelPlacer:
    """Prepares axes with distance rings, the ego and fields of view.

    Args:
        ax: axes to draw on.
        area: the area that the axes show.
        views: cameras whose fields of view are drawn as light sectors, with names at the border.

    Returns:
        The placer for further labels.
    """
    (left, bottom), (right, top) = area.on_page(-1, -1), area.on_page(1, 1)
    ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    ax.set_aspect("equal")
    ax.set_facecolor(BACKGROUND)
    ax.spines[:].set_color(GRID_COLOR)
    line = {"color": GRID_COLOR, "linewidth": 0.6, "zorder": 1}
    ax.plot([left, right], [0, 0], **line)
    ax.plot([0, 0], [bottom, top], **line)
    ax.add_patch(Polygon(_EGO, facecolor=TEXT_COLOR, zorder=5))
    # The placer measures the axes, whose limits and aspect are final from here on.
    placer = LabelPlacer(ax)
    placer.reserve(np.concatenate([_EGO.min(axis=0), _EGO.max(axis=0)])[None])
    _draw_fields_of_view(ax, views, area, placer)
    _draw_rings(ax, max(map(abs, (left, bottom, right, top))), placer)
    return placer


def _draw_rings(ax: Axes, farthest: float, placer: LabelPlacer) -> None:
    """Draws rings around the ego with their distances, up to the distance ``farthest``."""
    for radius in round_distances(farthest)[1:]:
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=GRID_COLOR, lw=0.6, zorder=1))
        diagonal = radius * np.sqrt(0.5)
        # Behind the ego, or ahead of it where the area has no place behind.
        anchors = [(diagonal, -diagonal, "left", "top"), (diagonal, diagonal, "left", "bottom")]
        anchors += [(0, radius, "left", align) for align in ("bottom", "top")]
        placer.place(f"{radius:g} m", anchors, RING_TEXT_COLOR, _RING_FONT_SIZE, opacity=0)


def draw_boxes_on_bev(
    ax: Axes,
    detections: LabelledBoxes,
    *,
    style: BoxStyle,
    class_names: Sequence[str],
    placer: LabelPlacer,
) -> int:
    """Draws footprints and velocity arrows of the boxes whose centre is inside the axes.

    The front side of a footprint has a wider line.

    Args:
        ax: axes that :func:`draw_bev` prepared.
        detections: boxes in key ego.
        style: style of the boxes.
        class_names: names that the boxes' labels index.
        placer: the placer that :func:`draw_bev` returned. Labels are placed next to the boxes;
            labels without room are left out.

    Returns:
        Number of boxes drawn.
    """
    detections = detections.to("cpu")
    centers, limits = to_view(detections.boxes.centers.numpy()), (ax.get_xlim(), ax.get_ylim())
    inside = [(low <= c) & (c <= high) for c, (low, high) in zip(centers.T, limits, strict=True)]
    detections = detections[torch.from_numpy(inside[0] & inside[1])]
    footprints = to_view(detections.boxes.corners()[:, [0, 2, 6, 4], :2].numpy())
    colors = style.colors(detections.labels.tolist(), class_names)

    # Corner order: rear right, rear left, front left, front right; corners 2 and 3 are the front.
    outlines = np.concatenate([footprints, footprints[:, :1]], axis=1)
    add_lines(ax, outlines, colors, style.width, style)
    add_lines(ax, footprints[:, 2:4], colors, 2.2 * style.width, style)
    arrows, owner = velocity_arrows(detections.boxes)
    strokes = to_view(arrows[..., :2]).reshape(-1, 2, 2)
    add_lines(ax, strokes, [colors[i] for i in owner.repeat(3)], 0.9 * style.width, style)
    if style.fill:
        add_filling(ax, footprints, colors, style)
    # All boxes reserve their area before the first label is placed, so that no label hides a box.
    placer.reserve(np.concatenate([footprints.min(axis=1), footprints.max(axis=1)], axis=1))
    if style.labelled:
        for i in detections.by_priority():
            text = label_text(detections, i, class_names)
            anchors = _label_anchors(footprints[i])
            placer.place(text, anchors, text_color(colors[i]), _FONT_SIZE)
    return len(detections)


def draw_trails(ax: Axes, trails: Sequence[np.ndarray], color: str) -> None:
    """Draws past trajectories that fade towards their oldest point.

    Args:
        ax: axes that :func:`draw_bev` prepared.
        trails: (K, 2) x, y of each trajectory in key ego, metres, the latest point last.
        color: colour of all trails.
    """
    for trail in (trail for trail in trails if len(trail) > 1):
        points = to_view(np.asarray(trail, float))
        segments = LineCollection(
            list(np.stack([points[:-1], points[1:]], axis=1)),
            colors=color,
            alpha=np.linspace(0.25, 0.9, len(points) - 1),
            linewidths=TRAIL_WIDTH,
            zorder=2,
        )
        ax.add_collection(segments, autolim=False)


def _draw_fields_of_view(
    ax: Axes, views: Sequence[CameraView], area: BEVArea, placer: LabelPlacer
) -> None:
    """Draws the fields of view; where they overlap, the background is lighter."""
    # Rays of four times the reach end outside of the axes in every direction.
    sectors = [to_view(_field_of_view(view, 4 * area.reach)) for view in views]
    fields = PolyCollection(
        sectors,
        facecolors=FIELD_OF_VIEW_COLOR,
        edgecolors=FIELD_OF_VIEW_COLOR,
        alpha=0.07,
        linewidths=0.8,
        zorder=0.5,
    )
    ax.add_collection(fields, autolim=False)
    for view, sector in zip(views, sectors, strict=True):
        ahead = sector[1 + _NUM_RAYS // 2] - sector[0]
        border = np.where(ahead > 0, area.on_page(0.985, 0.985), area.on_page(-0.985, -0.985))
        # The middle ray ends where it meets the first border. A camera that faces straight down or
        # up has no such place.
        lengths = np.divide(border, ahead, out=np.full(2, np.inf), where=np.abs(ahead) > 1e-9)
        x, y = ahead * lengths.min() if np.isfinite(lengths).any() else np.zeros(2)
        right, up = (np.array([x, y]) - area.on_page(0, 0)) / area.reach
        horizontal = "center" if abs(right) < 0.4 else "right" if right > 0 else "left"
        vertical = "center" if abs(up) < 0.4 else "top" if up > 0 else "bottom"
        name, anchor = view.name.replace("_", " "), (x, y, horizontal, vertical)
        placer.place(name, [anchor], RING_TEXT_COLOR, _CAMERA_FONT_SIZE)


def _field_of_view(view: CameraView, length: float) -> np.ndarray:
    """Returns the (1 + rays, 2) polygon of a field of view: x, y in key ego, metres.

    Its first point is the camera; the others are the ends of rays of ``length`` metres through the
    middle row of the image.
    """
    height, width = view.image.shape[:2]
    columns = np.linspace(0, width, _NUM_RAYS)
    uv = np.stack([columns, np.full(_NUM_RAYS, height / 2)], axis=1)
    rays = unproject(uv, np.ones(_NUM_RAYS), view.intrinsics.double().cpu().numpy())
    pose = view.cam2keyego.double().cpu()
    rays = (pose[:3, :3].numpy() @ rays.T).T[:, :2]
    center = transform_points(pose.new_zeros(1, 3), pose)[:, :2].numpy()
    # A ray straight up or down has no direction on the ground; the clip avoids a division by 0.
    rays /= np.linalg.norm(rays, axis=1, keepdims=True).clip(1e-9)
    return np.concatenate([center, center + length * rays])


def _label_anchors(footprint: np.ndarray) -> list[tuple[float, float, str, str]]:
    """Returns label anchors around a (4, 2) footprint: right, left, above, below, then corners."""
    (left, low), (right, high) = footprint.min(axis=0), footprint.max(axis=0)
    x, y = footprint.mean(axis=0)
    left, low, right, high = left - 0.5, low - 0.4, right + 0.5, high + 0.4
    return [
        (right, y, "left", "center"),
        (left, y, "right", "center"),
        (x, high, "center", "bottom"),
        (x, low, "center", "top"),
        (right, high, "left", "bottom"),
        (right, low, "left", "top"),
        (left, high, "right", "bottom"),
        (left, low, "right", "top"),
    ]
