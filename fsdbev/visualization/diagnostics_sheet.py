"""Diagnostics sheet: one picture of a model's detections and intermediate outputs for a sample.

Each camera has a row with the detections, depth, foreground and the attention of the boxes. Below
are BEV maps: the features of student and teacher, and the center heatmap.

Shapes: (H, W) picture, (Y, X) BEV grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from fsdbev.structures import LabelledBoxes

from .bev_view import BEVArea, draw_bev, draw_boxes_on_bev, to_view
from .canvas import TEXT_COLOR, axes_at, draw_class_legend, new_page, pixels_of, write
from .drawing import PREDICTION, TRUTH, BoxStyle
from .image_view import dimmed, draw_boxes_on_image, draw_image
from .views import CameraDiagnostics, Diagnostics

#: Sizes in inches.
_WIDTH, _GAP, _TITLE_HEIGHT, _HEADING_HEIGHT, _LEGEND_HEIGHT = 13.2, 0.05, 0.32, 0.36, 0.34
_BAR_WIDTH, _MAX_BEV_SIDE = 1.1, 5.4
#: Perceptually uniform maps, readable with any colour vision; near depths are bright.
DEPTH_COLORS, HEAT_COLORS = matplotlib.colormaps["viridis_r"], matplotlib.colormaps["inferno"]
#: Detections have labels in BEV; camera images are too small for labels and have filled faces.
_BEV_STYLE = replace(PREDICTION, fill=0, labelled=True)
_IMAGE_STYLE = replace(PREDICTION, fill=0.2, labelled=False)
_MARGIN = 1.04  # factor on the side of a BEV panel
#: Features outside of these percentiles get the end colours, since grid borders are often extreme.
_FEATURE_PERCENTILES = (5, 90)


@dataclass(frozen=True)
class _Column:
    """Column of maps over the camera images.

    Attributes:
        heading: text above the column.
        name: attribute of ``CameraDiagnostics`` with the map.
        colors, norm: colour map and range of the values.
        fades: whether low values are transparent and show the image.
    """

    heading: str
    name: str
    colors: Colormap
    norm: Normalize
    fades: bool


def diagnostics_sheet(diagnostics: Diagnostics) -> np.ndarray:
    """Draws the detections and intermediate outputs of a model for one sample.

    Returns:
        (H, W, 3) uint8 RGB image, W = 1980. H depends on the aspect ratios of the cameras and on
        which outputs the model has.

    Raises:
        ValueError: there is no camera.
    """
    if not diagnostics.cameras:
        raise ValueError("a sheet needs at least one camera")
    columns = _columns(diagnostics)
    cell_width = (_WIDTH - _GAP) / (len(columns) + 1) - _GAP
    lefts = [_GAP + i * (cell_width + _GAP) for i in range(len(columns) + 1)]
    heights = [cell_width / camera.view.aspect for camera in diagnostics.cameras]
    panels = _panels(diagnostics)
    side = min((_WIDTH - _GAP) / len(panels) - _GAP, _MAX_BEV_SIDE)
    top = _LEGEND_HEIGHT + side + _GAP + sum(heights) + _GAP * len(heights)

    figure = new_page(_WIDTH, top + _HEADING_HEIGHT + _TITLE_HEIGHT)
    write(figure, _GAP, top + _HEADING_HEIGHT + 0.5 * _TITLE_HEIGHT, diagnostics.title, 9.5)
    _draw_headings(figure, top, lefts, cell_width, columns, diagnostics)
    for camera, height in zip(diagnostics.cameras, heights, strict=True):
        top -= height
        ax = axes_at(figure, lefts[0], top, cell_width, height)
        _draw_boxes(ax, camera, diagnostics)
        for left, column in zip(lefts[1:], columns, strict=True):
            _draw_map(axes_at(figure, left, top, cell_width, height), camera, column)
        top -= _GAP
    left = (_WIDTH - len(panels) * (side + _GAP) + _GAP) / 2
    for i, panel in enumerate(panels):
        ax = axes_at(figure, left + i * (side + _GAP), _LEGEND_HEIGHT, side, side)
        _draw_panel(ax, panel, diagnostics)
    middle = (_WIDTH / 2, _LEGEND_HEIGHT / 2)
    draw_class_legend(figure, middle, _WIDTH, diagnostics.class_names)
    return pixels_of(figure)


def _columns(diagnostics: Diagnostics) -> list[_Column]:
    """Returns the columns for the maps that all cameras have."""
    cameras = diagnostics.cameras
    depths = Normalize(0, diagnostics.depth_range[1])
    # One scale for all cameras; without any attention the scale would be empty.
    attention = Normalize(0, max(float(camera.attention.max()) for camera in cameras) or 1.0)
    columns = [
        _Column("most likely depth, m", "depth", DEPTH_COLORS, depths, fades=False),
        _Column("foreground probability", "foreground", HEAT_COLORS, Normalize(0, 1), fades=True),
        _Column("attention of the boxes", "attention", HEAT_COLORS, attention, fades=True),
    ]
    return [c for c in columns if all(getattr(camera, c.name) is not None for camera in cameras)]


def _draw_headings(
    figure: Figure,
    bottom: float,
    lefts: Sequence[float],
    width: float,
    columns: Sequence[_Column],
    diagnostics: Diagnostics,
) -> None:
    """Writes the heading of each column, with a colour bar for maps."""
    middle = bottom + 0.55 * _HEADING_HEIGHT
    counts = f"{len(diagnostics.detections)} detections"
    if diagnostics.truth is not None:
        counts += f"; dashed: {len(diagnostics.truth)} ground-truth boxes"
    write(figure, lefts[0], middle, counts, 8)
    for left, column in zip(lefts[1:], columns, strict=True):
        write(figure, left, middle, column.heading, 8)
        bar = axes_at(figure, left + width - _BAR_WIDTH - 0.1, bottom + 0.2, _BAR_WIDTH, 0.09)
        limits = (column.norm.vmin, column.norm.vmax)
        ramp = np.linspace(0, 1, 256)[None]
        bar.imshow(ramp, cmap=column.colors, aspect="auto", extent=(*limits, 0, 1))
        ticks = np.linspace(*limits, 3)
        bar.set(yticks=[], xticks=ticks)
        bar.set_xticklabels([f"{value:.2g}" for value in ticks])
        bar.tick_params(colors=TEXT_COLOR, labelsize=6, length=2, pad=1)


def _draw_boxes(ax: Axes, camera: CameraDiagnostics, diagnostics: Diagnostics) -> None:
    """Draws ground truth and detections on a camera image."""
    placer, class_names = draw_image(ax, camera.view), diagnostics.class_names
    for boxes, style in ((diagnostics.truth, TRUTH), (diagnostics.detections, _IMAGE_STYLE)):
        if boxes is not None:
            draw_boxes_on_image(
                ax, camera.view, boxes, style=style, class_names=class_names, placer=placer
            )


def _draw_map(ax: Axes, camera: CameraDiagnostics, column: _Column) -> None:
    """Overlays a map on the dimmed camera image."""
    draw_image(ax, dimmed(camera.view, ""))
    # Normalize returns a masked array.
    values = column.norm(getattr(camera, column.name)).filled()
    overlay = column.colors(values)
    # The square root keeps low probabilities visible.
    overlay[..., 3] = 0.9 * np.sqrt(values) if column.fades else 0.75
    height, width = camera.view.image.shape[:2]
    ax.imshow(overlay, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")


@dataclass(frozen=True)
class _Panel:
    """BEV map with boxes.

    Attributes:
        heading: text in the corner.
        values: (Y, X) map.
        colors, norm: colour map and range of the values.
        boxes: boxes drawn over the map.
        style: style of the boxes.
    """

    heading: str
    values: np.ndarray
    colors: Colormap
    norm: Normalize
    boxes: LabelledBoxes | None
    style: BoxStyle


def _panels(diagnostics: Diagnostics) -> list[_Panel]:
    """Returns the BEV panels; the features of student and teacher share one scale."""
    features = {"BEV": diagnostics.student_bev}
    if diagnostics.teacher_bev is not None:
        features = {"student BEV": diagnostics.student_bev, "teacher BEV": diagnostics.teacher_bev}
    low, high = np.percentile(np.stack(list(features.values())), _FEATURE_PERCENTILES)
    # Constant maps would have an empty range.
    norm = Normalize(low, max(high, low + 1e-9), clip=True)
    panels = [
        _Panel(f"{name}: distance from median", values, HEAT_COLORS, norm, diagnostics.truth, TRUTH)
        for name, values in features.items()
    ]
    heat = Normalize(0, max(float(diagnostics.heatmap.max()), 1e-9))
    heading = f"center probability, up to {100 * heat.vmax:.0f} %"
    grey = matplotlib.colormaps["gray"]
    boxes = diagnostics.detections
    return [*panels, _Panel(heading, diagnostics.heatmap, grey, heat, boxes, _BEV_STYLE)]


def _draw_panel(ax: Axes, panel: _Panel, diagnostics: Diagnostics) -> None:
    """Draws a BEV map with its boxes."""
    grid = diagnostics.grid
    area = BEVArea.of_grid(grid, _MARGIN)
    placer = draw_bev(ax, area=area)
    # y points left on the page, so its lower left corner is the smallest x and the largest y.
    low = to_view(np.array([grid.x_range[0], grid.y_range[1]]))
    high = to_view(np.array([grid.x_range[1], grid.y_range[0]]))
    ax.imshow(
        panel.values.T[:, ::-1],  # (Y, X) to rows along x and columns along -y, as on the page
        origin="lower",
        extent=(low[0], high[0], low[1], high[1]),
        cmap=panel.colors,
        norm=panel.norm,
        interpolation="nearest",
        zorder=0.2,
    )
    corner = (*area.on_page(-0.985, 0.985), "left", "top")
    placer.place(panel.heading, [corner], TEXT_COLOR, 8)
    if panel.boxes is not None:
        names = diagnostics.class_names
        draw_boxes_on_bev(ax, panel.boxes, style=panel.style, class_names=names, placer=placer)
