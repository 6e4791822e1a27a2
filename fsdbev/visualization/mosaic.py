"""One picture of a sample: all cameras with their boxes, and the same boxes from above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fsdbev.structures import CLASS_NAMES, LabelledBoxes

from .bev_view import TRAIL_WIDTH, draw_bev, draw_boxes_on_bev, draw_trails
from .canvas import (
    TEXT_COLOR,
    TRAIL_COLOR,
    axes_at,
    draw_class_legend,
    draw_legend,
    new_page,
    pixels_of,
    write,
)
from .drawing import ARROW_SECONDS, PREDICTION, TRUTH, TRUTH_ALONE, BoxStyle
from .image_view import draw_boxes_on_image, draw_image
from .views import CameraView

_TITLE_SIZE = 9.5  # points
REACH = 55.0  # metres


# Inches.
TITLE_HEIGHT, LEGEND_HEIGHT, GAP = 0.34, 0.42, 0.05
_MIN_CAMERAS_HEIGHT, _MAX_CAMERAS_HEIGHT, _MAX_CAMERAS_WIDTH = 3.9, 5.2, 14.0
#: Left, bottom, width, height in inches from the page's lower left.
Place = tuple[float, float, float, float]


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


@dataclass(frozen=True)
class MosaicLayout:
    """Places of the cameras' pictures, of the view from above beside them and of the texts.

    Attributes:
        cameras: a place each, in rows, of the pictures' own aspect ratios.
        cameras_width, cameras_height: of the block of cameras.
    """

    cameras: tuple[Place, ...]
    cameras_width: float
    cameras_height: float

    @classmethod
    def of(cls, aspects: Sequence[float]) -> MosaicLayout:
        """The number of rows that leaves least of the page empty.

        Args:
            aspects: width over height of each camera's picture; they fill rows in this order.
        """
        choices = [cls._in_rows(aspects, rows) for rows in range(1, len(aspects) + 1)]
        return max(choices, key=lambda layout: layout._share_used())

    @classmethod
    def _in_rows(cls, aspects: Sequence[float], rows: int) -> MosaicLayout:
        """Rows of one height and of as many cameras as can be, the last ones perhaps of fewer; each
        row in the middle."""
        columns = math.ceil(len(aspects) / rows)
        parts = [aspects[start : start + columns] for start in range(0, len(aspects), columns)]
        widest = max(parts, key=sum)
        height = min(
            (_MAX_CAMERAS_HEIGHT - (len(parts) - 1) * GAP) / len(parts),
            (_MAX_CAMERAS_WIDTH - (len(widest) - 1) * GAP) / sum(widest),
        )
        width = sum(widest) * height + (len(widest) - 1) * GAP
        block_height = len(parts) * (height + GAP) - GAP
        cameras_height = max(block_height, _MIN_CAMERAS_HEIGHT)
        top = LEGEND_HEIGHT + (cameras_height + block_height) / 2
        places = []
        for row, part in enumerate(parts):
            left = GAP + (width - sum(part) * height - (len(part) - 1) * GAP) / 2
            for aspect in part:
                bottom = top - row * (height + GAP) - height
                places.append((left, bottom, aspect * height, height))
                left += aspect * height + GAP
        return cls(tuple(places), width, cameras_height)

    def _share_used(self) -> float:
        """Pictures' share of the page."""
        pictures = sum(width * height for _, _, width, height in self.cameras)
        return pictures / (self.width * self.height)

    @property
    def height(self) -> float:
        return LEGEND_HEIGHT + self.cameras_height + TITLE_HEIGHT

    @property
    def width(self) -> float:
        return GAP + self.cameras_width + GAP + self.bev[2] + GAP

    @property
    def bev(self) -> Place:
        """The view from above: square, right of the cameras."""
        side = LEGEND_HEIGHT + self.cameras_height - GAP
        return (GAP + self.cameras_width + GAP, GAP, side, side)
