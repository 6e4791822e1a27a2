"""One picture of a sample: all cameras with their boxes, and the same boxes from above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fsdbev.structures import CLASS_NAMES, LabelledBoxes

from .bev_view import TRAIL_WIDTH, draw_bev, draw_boxes_on_bev, draw_trails
from .canvas import axes_at, new_page, pixels_of, write
from .drawing import PREDICTION, TRUTH, TRUTH_ALONE, BoxStyle
from .image_view import draw_boxes_on_image, draw_image
from .layout import GAP, LEGEND_HEIGHT, TITLE_HEIGHT, MosaicLayout
from .legend import draw_class_legend, draw_legend
from .palette import TEXT_COLOR, TRAIL_COLOR
from .velocity import ARROW_SECONDS
from .views import CameraView

_TITLE_SIZE = 9.5  # points
REACH = 55.0  # metres


@dataclass(frozen=True)
class _Layer:
    """A set of boxes, how it looks and what the legend calls it."""

    detections: LabelledBoxes
    style: BoxStyle
    name: str


def mosaic(
    views: Sequence[CameraView],
    *,
    truth: LabelledBoxes | None = None,
    predictions: LabelledBoxes | None = None,
    trails: Sequence[np.ndarray] = (),
    class_names: Sequence[str] = CLASS_NAMES,
    title: str = "",
    reach: float = REACH,
) -> np.ndarray:
    """All cameras beside the view from above.

    Predictions are solid in class colours with class and score; ground truth beside them is dashed
    white; ground truth alone takes the class colours. Arrows are velocities.

    Args:
        views: any number of cameras; they fill rows in this order.
        truth: true boxes, key ego, where known.
        predictions: predicted boxes, key ego, where some were asked for.
        trails: ways that were gone, (K, 2) x, y in key ego each, seen from above.
        reach: half the side of the view from above, metres.

    Returns:
        (H, W, 3) uint8 RGB picture. Its size depends on the cameras' aspect ratios alone.
    """
    if not views:
        raise ValueError("a mosaic needs at least one camera view")
    layers = _layers(truth, predictions)
    layout = MosaicLayout.of([view.aspect for view in views])
    figure = new_page(layout.width, layout.height)
    for view, place in zip(views, layout.cameras, strict=True):
        ax = axes_at(figure, *place)
        placer = draw_image(ax, view)
        for layer in layers:
            draw_boxes_on_image(
                ax,
                view,
                layer.detections,
                style=layer.style,
                class_names=class_names,
                placer=placer,
            )
    ax = axes_at(figure, *layout.bev)
    placer = draw_bev(ax, reach=reach, views=views)
    draw_trails(ax, trails, TRAIL_COLOR)
    for layer in layers:
        draw_boxes_on_bev(
            ax, layer.detections, style=layer.style, class_names=class_names, placer=placer
        )
    _add_texts(figure, layout, _line_entries(layers, bool(trails)), class_names, title)
    return pixels_of(figure)


def _layers(truth: LabelledBoxes | None, predictions: LabelledBoxes | None) -> list[_Layer]:
    """What is drawn, from the bottom up."""
    if predictions is None:
        return [] if truth is None else [_Layer(truth, TRUTH_ALONE, "ground truth")]
    layers = [] if truth is None else [_Layer(truth, TRUTH, "ground truth")]
    return layers + [_Layer(predictions, PREDICTION, "prediction, score in %")]


def _add_texts(
    figure: Figure,
    layout: MosaicLayout,
    lines: Sequence[Artist],
    class_names: Sequence[str],
    title: str,
) -> None:
    """Above, the title and what the lines mean; below the cameras, the classes' colours."""
    above = layout.height - 0.5 * TITLE_HEIGHT
    write(figure, GAP, above, title, _TITLE_SIZE)
    draw_legend(figure, lines, "center right", (layout.width - GAP, above), max(1, len(lines)))
    below = (GAP + layout.cameras_width / 2, 0.5 * LEGEND_HEIGHT)
    draw_class_legend(figure, below, layout.cameras_width, class_names)


def _line_entries(layers: Sequence[_Layer], with_trails: bool) -> list[Artist]:
    """The line of each set of boxes with their number, the arrow and the trails."""
    lines = [
        Line2D(
            [],
            [],
            color=layer.style.color or TEXT_COLOR,
            linestyle=layer.style.dashes,
            linewidth=1.5 * layer.style.width,
            label=f"{layer.name} ({len(layer.detections)})",
        )
        for layer in layers
    ]
    if layers:
        way = f"velocity: way in {ARROW_SECONDS:g} s"
        lines += [Line2D([], [], color=TEXT_COLOR, lw=1.2, marker=">", markersize=4, label=way)]
    if with_trails:
        lines += [Line2D([], [], color=TRAIL_COLOR, lw=TRAIL_WIDTH, label="ways so far")]
    return lines
