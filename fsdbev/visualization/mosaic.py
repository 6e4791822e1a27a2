"""Mosaic of a sample: all camera images with 3D boxes next to a BEV view, and its page layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fsdbev.structures import LabelledBoxes

from .bev_view import TRAIL_WIDTH, BEVArea, draw_bev, draw_boxes_on_bev, draw_trails
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
from .drawing import ARROW_SECONDS, PREDICTION, TRUTH, TRUTH_ONLY, BoxStyle
from .image_view import draw_boxes_on_image, draw_image
from .views import CameraView

_TITLE_SIZE = 9.5  # points

#: Heights of the title and the legend, and the gap between pictures, inches.
TITLE_HEIGHT, LEGEND_HEIGHT, GAP = 0.34, 0.42, 0.05
#: Bounds of the block of camera images, inches.
_MIN_CAMERAS_HEIGHT, _MAX_CAMERAS_HEIGHT, _MAX_CAMERAS_WIDTH = 3.9, 5.2, 14.0
#: Left, bottom, width and height in inches from the page's lower left corner.
Place = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Layer:
    """A set of boxes with its style and its name in the legend."""

    detections: LabelledBoxes
    style: BoxStyle
    name: str


def mosaic(
    views: Sequence[CameraView],
    *,
    class_names: Sequence[str],
    area: BEVArea,
    truth: LabelledBoxes | None = None,
    predictions: LabelledBoxes | None = None,
    trails: Sequence[np.ndarray] = (),
    title: str = "",
) -> np.ndarray:
    """Draws all camera images next to the BEV view.

    Predictions have solid lines in class colours, with class and score. Ground truth has dashed
    white lines next to predictions, and class colours otherwise. Arrows show velocities.

    Args:
        views: any number of cameras; they fill the rows in this order.
        class_names: names that the boxes' labels index.
        area: the area that the BEV view shows.
        truth: ground-truth boxes in key ego; None draws none.
        predictions: predicted boxes in key ego; None draws none.
        trails: past trajectories, (K, 2) x, y in key ego each, drawn in the BEV view.
        title: text above the pictures.

    Returns:
        (H, W, 3) uint8 RGB image. Its size depends only on the aspect ratios of the cameras.

    Raises:
        ValueError: there is no view.
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
    placer = draw_bev(ax, area=area, views=views)
    draw_trails(ax, trails, TRAIL_COLOR)
    for layer in layers:
        draw_boxes_on_bev(
            ax, layer.detections, style=layer.style, class_names=class_names, placer=placer
        )
    _add_texts(figure, layout, _line_entries(layers, bool(trails)), class_names, title)
    return pixels_of(figure)


def _layers(truth: LabelledBoxes | None, predictions: LabelledBoxes | None) -> list[_Layer]:
    """Returns the sets of boxes in drawing order, the lowest first."""
    if predictions is None:
        return [] if truth is None else [_Layer(truth, TRUTH_ONLY, "ground truth")]
    layers = [] if truth is None else [_Layer(truth, TRUTH, "ground truth")]
    return layers + [_Layer(predictions, PREDICTION, "prediction, score in %")]


def _add_texts(
    figure: Figure,
    layout: MosaicLayout,
    lines: Sequence[Artist],
    class_names: Sequence[str],
    title: str,
) -> None:
    """Writes title and line legend at the top, and the class legend below the cameras."""
    above = layout.height - 0.5 * TITLE_HEIGHT
    write(figure, GAP, above, title, _TITLE_SIZE)
    draw_legend(figure, lines, "center right", (layout.width - GAP, above), max(1, len(lines)))
    below = (GAP + layout.cameras_width / 2, 0.5 * LEGEND_HEIGHT)
    draw_class_legend(figure, below, layout.cameras_width, class_names)


def _line_entries(layers: Sequence[_Layer], with_trails: bool) -> list[Artist]:
    """Returns legend entries for each set of boxes with their number, the arrows and the trails."""
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
        text = f"velocity: distance in {ARROW_SECONDS:g} s"
        lines += [Line2D([], [], color=TEXT_COLOR, lw=1.2, marker=">", markersize=4, label=text)]
    if with_trails:
        lines += [Line2D([], [], color=TRAIL_COLOR, lw=TRAIL_WIDTH, label="past trajectories")]
    return lines


@dataclass(frozen=True)
class MosaicLayout:
    """Page layout: camera images in rows, the BEV view to their right, title and legend.

    Attributes:
        cameras: place of each camera image; it has the image's aspect ratio.
        cameras_width, cameras_height: size of the block of camera images, inches.
    """

    cameras: tuple[Place, ...]
    cameras_width: float
    cameras_height: float

    @classmethod
    def of(cls, aspects: Sequence[float]) -> MosaicLayout:
        """Chooses the number of rows that leaves the least of the page empty.

        Args:
            aspects: width / height of each camera image; the images fill the rows in this order.
        """
        choices = [cls._in_rows(aspects, rows) for rows in range(1, len(aspects) + 1)]
        return max(choices, key=cls._used_fraction)

    @classmethod
    def _in_rows(cls, aspects: Sequence[float], rows: int) -> MosaicLayout:
        """Lays out rows of equal height and equally many cameras, each row centred.

        Later rows have fewer cameras where the cameras do not fill all rows.
        """
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

    def _used_fraction(self) -> float:
        """Returns the fraction of the page that camera images cover."""
        pictures = sum(width * height for _, _, width, height in self.cameras)
        return pictures / (self.width * self.height)

    @property
    def height(self) -> float:
        """Height of the page, inches."""
        return LEGEND_HEIGHT + self.cameras_height + TITLE_HEIGHT

    @property
    def width(self) -> float:
        """Width of the page, inches."""
        return GAP + self.cameras_width + GAP + self.bev[2] + GAP

    @property
    def bev(self) -> Place:
        """Place of the BEV view: a square to the right of the cameras."""
        side = LEGEND_HEIGHT + self.cameras_height - GAP
        return (GAP + self.cameras_width + GAP, GAP, side, side)
