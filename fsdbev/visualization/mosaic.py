"""One picture of a sample: all cameras with their boxes, and the same boxes from above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fsdbev.structures import CLASS_NAMES

from .bev_view import draw_bev, draw_boxes_on_bev
from .canvas import axes_at, new_page, pixels_of, write
from .drawing import PREDICTION, TRUTH, TRUTH_ALONE, BoxStyle
from .image_view import draw_boxes_on_image, draw_image
from .palette import TEXT_COLOR, colors_of
from .views import CameraView, LabelledBoxes

# Inches; the cameras' height is of all rows together.
_CAMERAS_HEIGHT, _TITLE_HEIGHT, _LEGEND_HEIGHT, _GAP = 5.2, 0.30, 0.36, 0.05


@dataclass(frozen=True)
class _Layer:
    """A set of boxes, how it looks and what the legend calls it."""

    detections: LabelledBoxes
    style: BoxStyle
    name: str


@dataclass(frozen=True)
class _Layout:
    """Where everything stands, in inches from the lower left."""

    columns: int
    rows: int
    cell_width: float
    cell_height: float

    @classmethod
    def of(cls, views: Sequence[CameraView]) -> _Layout:
        """One row up to two cameras, two up to six, else as square as it goes."""
        count = len(views)
        rows = 1 if count <= 2 else 2 if count <= 6 else math.ceil(math.sqrt(count / 1.5))
        cell_height = (_CAMERAS_HEIGHT - (rows - 1) * _GAP) / rows
        widest = max(view.image.shape[1] / view.image.shape[0] for view in views)
        return cls(math.ceil(count / rows), rows, cell_height * widest, cell_height)

    @property
    def height(self) -> float:
        return _TITLE_HEIGHT + _CAMERAS_HEIGHT + _LEGEND_HEIGHT

    @property
    def bev_side(self) -> float:
        return _CAMERAS_HEIGHT + _LEGEND_HEIGHT - _GAP

    @property
    def cameras_width(self) -> float:
        return self.columns * (self.cell_width + _GAP)

    @property
    def width(self) -> float:
        return _GAP + self.cameras_width + self.bev_side + _GAP

    def camera(self, index: int) -> tuple[float, float, float, float]:
        """Left, bottom, width, height of a camera's picture."""
        row, column = divmod(index, self.columns)
        top = self.height - _TITLE_HEIGHT - row * (self.cell_height + _GAP)
        left = _GAP + column * (self.cell_width + _GAP)
        return left, top - self.cell_height, self.cell_width, self.cell_height

    def bev(self) -> tuple[float, float, float, float]:
        """Left, bottom, width, height of the view from above."""
        return _GAP + self.cameras_width, _GAP, self.bev_side, self.bev_side


def mosaic(
    views: Sequence[CameraView],
    *,
    truth: LabelledBoxes | None = None,
    predictions: LabelledBoxes | None = None,
    class_names: Sequence[str] = CLASS_NAMES,
    title: str = "",
    reach: float = 55.0,
) -> np.ndarray:
    """All cameras beside the view from above.

    Predictions are solid in class colours with class and score; ground truth beside them is dashed
    white; ground truth alone takes the class colours.

    Args:
        views: any number of cameras; they fill rows in this order.
        truth: true boxes, key ego, where known.
        predictions: predicted boxes, key ego, where some were asked for.
        reach: half the side of the view from above, metres.

    Returns:
        (H, W, 3) uint8 RGB picture.
    """
    if not views:
        raise ValueError("a mosaic needs at least one camera view")
    layers = _layers(truth, predictions)
    layout = _Layout.of(views)
    figure = new_page(layout.width, layout.height)
    for index, view in enumerate(views):
        ax = axes_at(figure, *layout.camera(index))
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
    ax = axes_at(figure, *layout.bev())
    placer = draw_bev(ax, reach=reach)
    for layer in layers:
        draw_boxes_on_bev(
            ax, layer.detections, style=layer.style, class_names=class_names, placer=placer
        )
    _add_texts(figure, layout, layers, class_names, title)
    return pixels_of(figure)


def _layers(truth: LabelledBoxes | None, predictions: LabelledBoxes | None) -> list[_Layer]:
    """What is drawn, from the bottom up."""
    if predictions is None:
        return [] if truth is None else [_Layer(truth, TRUTH_ALONE, "ground truth")]
    layers = [] if truth is None else [_Layer(truth, TRUTH, "ground truth")]
    return layers + [_Layer(predictions, PREDICTION, "prediction, score in %")]


def _add_texts(
    figure: Figure,
    layout: _Layout,
    layers: Sequence[_Layer],
    class_names: Sequence[str],
    title: str,
) -> None:
    """The title above; below the cameras, what the lines and colours mean."""
    write(figure, _GAP, layout.height - 0.5 * _TITLE_HEIGHT, title)
    # On a rig of few cameras the entries need more than one row.
    columns = max(1, int(layout.cameras_width / 1.15))
    figure.legend(
        handles=_legend_entries(layers, class_names),
        loc="center",
        bbox_to_anchor=(_GAP + layout.cameras_width / 2, 0.5 * _LEGEND_HEIGHT),
        bbox_transform=figure.dpi_scale_trans,
        ncol=columns,
        fontsize=6.5,
        frameon=False,
        labelcolor=TEXT_COLOR,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.2,
        borderpad=0,
        labelspacing=0.25,
    )


def _legend_entries(layers: Sequence[_Layer], class_names: Sequence[str]) -> list[Artist]:
    """The line of each set of boxes with their number, then the classes' colours."""
    lines = [
        Line2D(
            [0],
            [0],
            color=layer.style.color or TEXT_COLOR,
            linestyle=layer.style.dashes,
            linewidth=1.5 * layer.style.width,
            label=f"{layer.name} ({len(layer.detections)})",
        )
        for layer in layers
    ]
    patches = [
        Patch(facecolor=color, label=name.replace("_", " "))
        for name, color in zip(class_names, colors_of(class_names), strict=True)
    ]
    return lines + patches
