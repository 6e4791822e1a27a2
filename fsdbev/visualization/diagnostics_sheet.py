"""One picture of what a model believes of a sample.

A row a camera: what it finds, depth, foreground, and where its boxes come from. Below, from above:
the BEV features of student and teacher, and where objects' centres are likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from fsdbev.structures import CLASS_NAMES, LabelledBoxes

from .bev_view import draw_bev, draw_boxes_on_bev, to_view
from .canvas import TEXT_COLOR, axes_at, draw_class_legend, new_page, pixels_of, write
from .drawing import PREDICTION, TRUTH
from .image_view import dimmed, draw_boxes_on_image, draw_image
from .views import CameraDiagnostics, Diagnostics

# Inches.
_WIDTH, _GAP, _TITLE_HEIGHT, _HEADING_HEIGHT, _LEGEND_HEIGHT = 13.2, 0.05, 0.32, 0.36, 0.34
_BAR_WIDTH, _MAX_BEV_SIDE = 1.1, 5.4
#: Perceptually uniform, and readable with any colour vision. Near is bright.
DEPTH_COLORS, HEAT_COLORS = (matplotlib.colormaps[name] for name in ("viridis_r", "inferno"))
#: Beside names from above; in the small pictures, boxes alone.
_FOUND, _FOUND_IN_IMAGE = (replace(PREDICTION, fill=fill, labelled=not fill) for fill in (0, 0.2))
_REACH = 1.04  # of the view from above, times the grid's
_FEATURE_PERCENTILES = (5, 90)  # what lies beyond looks the same: borders are often extreme


@dataclass(frozen=True)
class _Column:
    """A kind of map on the cameras' pictures.

    Attributes:
        heading: what it shows.
        name: of the map in ``CameraDiagnostics``.
        colors, span: of the map's values.
        see_through: pixels of low values show the picture.
    """

    heading: str
    name: str
    colors: Colormap
    span: Normalize
    see_through: bool


def diagnostics_sheet(
    diagnostics: Diagnostics, class_names: Sequence[str] = CLASS_NAMES
) -> np.ndarray:
    """All that a model believes of a sample.

    Returns:
        (H, W, 3) uint8 RGB picture, W = 1980. Its size depends on the cameras' aspect ratios and on
        what the model tells.
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
        _draw_found(
            axes_at(figure, lefts[0], top, cell_width, height), camera, diagnostics, class_names
        )
        for left, column in zip(lefts[1:], columns, strict=True):
            _draw_map(axes_at(figure, left, top, cell_width, height), camera, column)
        top -= _GAP
    left = (_WIDTH - len(panels) * (side + _GAP) + _GAP) / 2
    for i, panel in enumerate(panels):
        ax = axes_at(figure, left + i * (side + _GAP), _LEGEND_HEIGHT, side, side)
        _draw_panel(ax, panel, diagnostics, class_names)
    draw_class_legend(figure, (_WIDTH / 2, _LEGEND_HEIGHT / 2), _WIDTH, class_names)
    return pixels_of(figure)


def _columns(diagnostics: Diagnostics) -> list[_Column]:
    most = max(float(camera.attention.max()) for camera in diagnostics.cameras) or 1.0
    columns = [
        _Column(
            "likeliest depth, m",
            "depth",
            DEPTH_COLORS,
            Normalize(0, diagnostics.depth_range[1]),
            False,
        ),
        _Column("foreground probability", "foreground", HEAT_COLORS, Normalize(0, 1), True),
        _Column("attention of the boxes", "attention", HEAT_COLORS, Normalize(0, most), True),
    ]
    tells = [
        all(getattr(c, column.name) is not None for c in diagnostics.cameras) for column in columns
    ]
    return [column for column, told in zip(columns, tells, strict=True) if told]


def _draw_headings(
    figure: Figure,
    bottom: float,
    lefts: Sequence[float],
    width: float,
    columns: Sequence[_Column],
    diagnostics: Diagnostics,
) -> None:
    """What each column shows; for maps, what their colours mean."""
    middle = bottom + 0.55 * _HEADING_HEIGHT
    found = f"{len(diagnostics.detections)} boxes found"
    if diagnostics.truth is not None:
        found += f"; dashed: {len(diagnostics.truth)} true ones"
    write(figure, lefts[0], middle, found, 8)
    for left, column in zip(lefts[1:], columns, strict=True):
        write(figure, left, middle, column.heading, 8)
        at = left + width - _BAR_WIDTH - 0.1
        bar = axes_at(figure, at, bottom + 0.2, _BAR_WIDTH, 0.09)
        span = (column.span.vmin, column.span.vmax)
        ramp = np.linspace(0, 1, 256)[None]
        bar.imshow(ramp, cmap=column.colors, aspect="auto", extent=(*span, 0, 1))
        bar.set(yticks=[], xticks=np.linspace(*span, 3))
        bar.set_xticklabels([f"{value:.2g}" for value in np.linspace(*span, 3)])
        bar.tick_params(colors=TEXT_COLOR, labelsize=6, length=2, pad=1)


def _draw_found(
    ax: Axes, camera: CameraDiagnostics, diagnostics: Diagnostics, class_names: Sequence[str]
) -> None:
    placer = draw_image(ax, camera.view)
    for boxes, style in ((diagnostics.truth, TRUTH), (diagnostics.detections, _FOUND_IN_IMAGE)):
        if boxes is not None:
            draw_boxes_on_image(
                ax, camera.view, boxes, style=style, class_names=class_names, placer=placer
            )


def _draw_map(ax: Axes, camera: CameraDiagnostics, column: _Column) -> None:
    """Lays a map over the dimmed picture."""
    draw_image(ax, dimmed(camera.view, ""))
    values = column.span(getattr(camera, column.name)).filled()
    overlay = column.colors(values)
    overlay[..., 3] = 0.9 * np.sqrt(values) if column.see_through else 0.75
    height, width = camera.view.image.shape[:2]
    ax.imshow(overlay, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
    ax.set(xlim=(0, width), ylim=(height, 0))


@dataclass(frozen=True)
class _Panel:
    """A map from above.

    Attributes:
        heading: what it shows.
        values: (Y, X).
        colors, span: of the values.
        boxes: laid over it.
        is_truth: whether those are the true ones.
    """

    heading: str
    values: np.ndarray
    colors: Colormap
    span: Normalize
    boxes: LabelledBoxes | None
    is_truth: bool


def _panels(diagnostics: Diagnostics) -> list[_Panel]:
    """Features of student and teacher share a scale, which leaves out what is extreme."""
    features = {"BEV": diagnostics.student_bev}
    if diagnostics.teacher_bev is not None:
        features = {"student BEV": diagnostics.student_bev, "teacher BEV": diagnostics.teacher_bev}
    low, high = np.percentile(np.stack(list(features.values())), _FEATURE_PERCENTILES)
    span = Normalize(low, max(high, low + 1e-9), clip=True)
    panels = []
    for name, values in features.items():
        heading = f"{name}: difference from usual features"
        panels.append(_Panel(heading, values, HEAT_COLORS, span, diagnostics.truth, is_truth=True))
    heat = Normalize(0, max(float(diagnostics.heatmap.max()), 1e-9))
    heading = f"probability of a centre, up to {100 * heat.vmax:.0f} %"
    grey = matplotlib.colormaps["gray"]
    return [
        *panels,
        _Panel(heading, diagnostics.heatmap, grey, heat, diagnostics.detections, False),
    ]


def _draw_panel(
    ax: Axes, panel: _Panel, diagnostics: Diagnostics, class_names: Sequence[str]
) -> None:
    grid = diagnostics.grid
    reach = _REACH * grid.reach
    placer = draw_bev(ax, reach=reach)
    low = to_view(np.array([grid.x_range[0], grid.y_range[1]]))
    high = to_view(np.array([grid.x_range[1], grid.y_range[0]]))
    ax.imshow(
        panel.values.T[:, ::-1],  # rows by x, columns by -y
        origin="lower",
        extent=(low[0], high[0], low[1], high[1]),
        cmap=panel.colors,
        norm=panel.span,
        interpolation="nearest",
        zorder=0.2,
    )
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
    corner = (-0.985 * reach, 0.985 * reach, "left", "top")
    placer.place(panel.heading, [corner], TEXT_COLOR, 8)
    if panel.boxes is not None:
        style = TRUTH if panel.is_truth else _FOUND
        draw_boxes_on_bev(ax, panel.boxes, style=style, class_names=class_names, placer=placer)
