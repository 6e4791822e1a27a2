"""Target sheet: one picture of all training targets of a sample, to check data by eye.

Each camera has a row with its point labels by depth, its point labels by class with the 3D boxes,
and its heatmaps with the 2D boxes. Below are a BEV view, the legend and the numbers of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from fsdbev.data.labels.point_labels import BACKGROUND, GROUPS

from .bev_view import BEVArea, draw_bev, draw_boxes_on_bev
from .canvas import (
    BACKGROUND_POINT_COLOR,
    TEXT_COLOR,
    TRUTH_COLOR,
    axes_at,
    colors_of,
    new_page,
    pixels_of,
    round_distances,
    write,
)
from .drawing import BoxStyle
from .image_view import dimmed, draw_boxes_on_image, draw_image
from .target_view import (
    DEPTH_COLORS,
    POINT_STYLES,
    class_colors,
    depth_colors,
    draw_grid,
    draw_heatmap,
    draw_points,
    draw_points_on_bev,
)
from .views import LabelPoints, TargetView, TrainingSample

#: Sizes in inches.
_WIDTH, _GAP, _TITLE_HEIGHT, _HEADING_HEIGHT, _BEV_SIDE = 13.2, 0.05, 0.30, 0.22, 6.9
_HEADINGS = ("labels by depth", "labels by class, 3D boxes", "heatmaps, 2D boxes")
_CELL_WIDTH = (_WIDTH - (len(_HEADINGS) + 1) * _GAP) / len(_HEADINGS)
_LINE, _NUMBERS_AT, _NUMBER_WIDTH = 0.2, 1.9, 0.85
_MARGIN = 1.08  # factor on the side of the BEV view
#: Thin boxes without filling, which do not hide the points.
_IN_CLASS_COLOR = BoxStyle(color=None, dashes="solid", width=0.7, fill=0, labelled=False, order=4)
_WHITE = replace(_IN_CLASS_COLOR, color=TRUTH_COLOR)
_POINTLESS = replace(_WHITE, dashes=(0, (3, 2)))


def target_sheet(sample: TrainingSample) -> np.ndarray:
    """Draws the training targets of a sample.

    Returns:
        (H, W, 3) uint8 RGB image, W = 1980.

    Raises:
        ValueError: the sample has no camera view.
    """
    if not sample.views:
        raise ValueError("a sheet needs at least one camera view")
    heights = [_CELL_WIDTH / view.camera.aspect for view in sample.views]
    cameras_height = sum(heights) + _GAP * len(heights)
    top = _GAP + _BEV_SIDE + _GAP + cameras_height
    figure = new_page(_WIDTH, top + _HEADING_HEIGHT + _TITLE_HEIGHT)
    write(figure, _GAP, top + _HEADING_HEIGHT + 0.5 * _TITLE_HEIGHT, sample.title)
    for column, heading in enumerate(_HEADINGS):
        write(figure, _left(column), top + 0.5 * _HEADING_HEIGHT, heading, 7)
    for view, height in zip(sample.views, heights, strict=True):
        top -= height
        axes = [axes_at(figure, _left(i), top, _CELL_WIDTH, height) for i in range(len(_HEADINGS))]
        _draw_camera(axes, view, sample)
        top -= _GAP
    _draw_bev(axes_at(figure, _GAP, _GAP, _BEV_SIDE, _BEV_SIDE), sample)
    _draw_legend(figure, sample)
    return pixels_of(figure)


def _left(column: int) -> float:
    """Returns the left edge of a column, inches."""
    return _GAP + column * (_CELL_WIDTH + _GAP)


def _depth_scale(sample: TrainingSample) -> Normalize:
    """Returns the scale of depth colours, which ends with the depth bins."""
    return Normalize(0, sample.depth_range[1], clip=True)


def _draw_camera(axes: Sequence[Axes], view: TargetView, sample: TrainingSample) -> None:
    """Draws one camera's row, in the order of the headings."""
    by_depth, by_class, by_heat = axes
    camera, points, class_names = view.camera, view.points, sample.class_names
    foreground = np.count_nonzero(points.class_ids != BACKGROUND)
    numbers = f"{len(points)} labels, {foreground} foreground"
    for ax, name, style in ((by_depth, camera.name, _WHITE), (by_class, numbers, _IN_CLASS_COLOR)):
        placer = draw_image(ax, dimmed(camera, name))
        for boxes, box_style in ((sample.boxes_without_points, _POINTLESS), (sample.boxes, style)):
            draw_boxes_on_image(
                ax, camera, boxes, style=box_style, class_names=class_names, placer=placer
            )
        # Augmented images have black margins; boxes are clipped to the part that has pixels.
        for lines in ax.collections:
            lines.set_clip_path(Polygon(view.source, transform=ax.transData))
    draw_image(by_heat, replace(camera, name=f"{len(view.outlines)} objects"))
    draw_points(by_depth, points.uv, points, depth_colors(points, _depth_scale(sample)))
    draw_points(by_class, points.uv, points, class_colors(points, class_names))
    draw_heatmap(by_heat, view, class_names)


def _draw_bev(ax: Axes, sample: TrainingSample) -> None:
    """Draws all labels, all boxes and the border of the grid in BEV."""
    area, class_names = BEVArea.of_grid(sample.grid, _MARGIN), sample.class_names
    placer = draw_bev(ax, area=area)
    draw_grid(ax, sample.grid)
    for view in sample.views:
        draw_points_on_bev(ax, view, class_names)
    for boxes, style in (
        (sample.boxes_without_points, _POINTLESS),
        (sample.boxes, _IN_CLASS_COLOR),
    ):
        draw_boxes_on_bev(ax, boxes, style=style, class_names=class_names, placer=placer)
    corner = (*area.on_page(-0.98, 0.98), "left", "top")
    placer.place("x up, y left; dotted: the grid's range", [corner], TEXT_COLOR, 6.5)


def _draw_legend(figure: Figure, sample: TrainingSample) -> None:
    """Draws depth bar, markers and classes with their numbers, to the right of the BEV view."""
    left, top, width = _BEV_SIDE + 0.3, _GAP + _BEV_SIDE, _WIDTH - _BEV_SIDE - 0.5
    write(
        figure,
        left,
        top - 0.5 * _LINE,
        "depth, m (scaled depth for augmented images)",
        7,
    )
    bar = axes_at(figure, left, top - 2.2 * _LINE, width, 0.8 * _LINE)
    span = (0, sample.depth_range[1])
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=DEPTH_COLORS, aspect="auto", extent=(*span, 0, 1))
    bar.set(yticks=[], xticks=round_distances(span[1]))
    bar.tick_params(colors=TEXT_COLOR, labelsize=6.5, length=2)

    height = _BEV_SIDE - 4.2 * _LINE
    marks = axes_at(figure, left, _GAP, width, height)
    marks.set(xlim=(0, width), ylim=(height, 0))
    marks.set_axis_off()
    for line, style in enumerate(POINT_STYLES):
        y = (line + 0.5) * _LINE
        # draw_points itself draws the example, so that the legend cannot differ from the pictures.
        place, zero = np.array([[0.1, y]]), np.zeros(1, np.int64)
        example = LabelPoints(place, zero, zero, zero + GROUPS.index(style.groups[0]))
        draw_points(marks, place, example, to_rgba_array(TEXT_COLOR))
        marks.text(0.25, y, style.name, color=TEXT_COLOR, fontsize=7, va="center")
    y = (len(POINT_STYLES) + 0.5) * _LINE
    marks.plot([0.02, 0.18], [y, y], color=_POINTLESS.color, linestyle=_POINTLESS.dashes, lw=1)
    count = len(sample.boxes_without_points)
    text = f"box of an object without LiDAR or radar points ({count}), no target"
    marks.text(0.25, y, text, color=TEXT_COLOR, fontsize=7, va="center")
    _write_numbers(marks, (len(POINT_STYLES) + 2) * _LINE, sample)


def _write_numbers(ax: Axes, top: float, sample: TrainingSample) -> None:
    """Writes one line for each class: its colour, its labels by group and its boxes."""
    points, class_names = [view.points for view in sample.views], sample.class_names
    rows = [("labels in all cameras", *(style.groups[0] for style in POINT_STYLES), "boxes")]
    names = [name.replace("_", " ") for name in class_names] + ["background"]
    class_ids = [*range(len(class_names)), BACKGROUND]
    for name, class_id in zip(names, class_ids, strict=True):
        counts = [
            sum(np.count_nonzero(style.of(p) & (p.class_ids == class_id)) for p in points)
            for style in POINT_STYLES
        ]
        boxes = int((sample.boxes.labels == class_id).sum())
        rows.append((name, *map(str, counts), str(boxes) if class_id != BACKGROUND else ""))
    colors = ["none", *colors_of(class_names), BACKGROUND_POINT_COLOR]
    for line, (cells, color) in enumerate(zip(rows, colors, strict=True)):
        y = top + (line + 0.5) * _LINE
        ax.add_patch(Rectangle((0.02, y - 0.06), 0.16, 0.12, facecolor=color))
        ax.text(0.25, y, cells[0], color=TEXT_COLOR, fontsize=7, va="center")
        for column, cell in enumerate(cells[1:], start=1):
            x = _NUMBERS_AT + column * _NUMBER_WIDTH
            ax.text(x, y, cell, color=TEXT_COLOR, fontsize=7, va="center", ha="right")
