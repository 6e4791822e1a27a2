"""3D boxes drawn on camera images.

Shapes: M boxes, S segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from fsdbev.structures import Boxes3D, LabelledBoxes, invert, transform_points

from .canvas import TEXT_COLOR, text_color
from .drawing import BoxStyle, LabelPlacer, add_filling, add_lines, label_text, velocity_arrows
from .projection import box_edges_on_image, front_face_on_image, segments_on_image
from .views import CameraView

#: Default depth of the near plane, metres.
NEAR_PLANE = 0.1
_FONT_SIZE = 6.5
#: Extents of boxes as fractions of the image height: below the first, lines get thinner; below the
#: second, boxes get no label.
_FULL_WIDTH_EXTENT, _LABELLED_EXTENT = 0.25, 0.05


def draw_image(ax: Axes, view: CameraView) -> LabelPlacer:
    """Draws the camera image and its name, if any; returns the placer for further labels."""
    height, width = view.image.shape[:2]
    # With this extent pixel u covers u .. u + 1; by default matplotlib centres it on u.
    ax.imshow(view.image, extent=(0, width, height, 0), interpolation="antialiased")
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    placer = LabelPlacer(ax)
    corner = (0.01 * width, 0.015 * height, "left", "top")
    if view.name:
        placer.place(view.name.replace("_", " "), [corner], TEXT_COLOR, 8.5)
    return placer


def dimmed(view: CameraView, name: str) -> CameraView:
    """Returns the view with a dark grey image, as a background for colours, and another name."""
    grey = view.image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    return replace(view, name=name, image=(0.55 * grey).astype(np.uint8))


def draw_boxes_on_image(
    ax: Axes,
    view: CameraView,
    detections: LabelledBoxes,
    *,
    style: BoxStyle,
    class_names: Sequence[str],
    placer: LabelPlacer,
    near: float = NEAR_PLANE,
) -> int:
    """Draws the boxes that are visible in a camera image, near boxes over far boxes.

    Edges are cut at the near plane and the image border. The front face is filled and has wider
    edges. Moving objects have an arrow on the ground, see :func:`.drawing.velocity_arrows`.

    Args:
        ax: axes that :func:`draw_image` prepared.
        view: the camera.
        detections: boxes in key ego.
        style: style of the boxes.
        class_names: names that the boxes' labels index.
        placer: the placer that :func:`draw_image` returned; labels without room are left out.
        near: depth of the near plane, metres.

    Returns:
        Number of boxes with a visible edge.
    """
    height, width = view.image.shape[:2]
    keyego2cam = invert(view.cam2keyego.double()).cpu()
    detections = _far_to_near(detections.to("cpu"), keyego2cam)
    corners = transform_points(detections.boxes.corners().double(), keyego2cam).numpy()
    lens = (view.intrinsics.double().cpu().numpy(), width, height, near)
    colors = style.colors(detections.labels.tolist(), class_names)

    segments, owner, in_front_face = box_edges_on_image(corners, *lens)
    lower, upper = _extents(segments, owner, len(detections))
    # Boxes without a visible segment keep the bounds inf and -inf.
    visible = np.flatnonzero((upper >= lower).all(axis=1))
    extent = np.maximum(0, upper - lower).max(axis=1) / height
    widths = style.width * np.clip(extent / _FULL_WIDTH_EXTENT, 0.5, 1)
    edge_widths = widths[owner] * np.where(in_front_face, 1.5, 1)
    add_lines(ax, segments, [colors[i] for i in owner], edge_widths, style)
    strokes, owner = _arrows(detections.boxes, visible, keyego2cam, lens)
    add_lines(ax, strokes, [colors[i] for i in owner], 1.2 * widths[owner], style)
    if style.fill:
        faces = {i: front_face_on_image(corners[i], *lens) for i in visible}
        shown = [i for i, face in faces.items() if face is not None]
        add_filling(ax, [faces[i] for i in shown], [colors[i] for i in shown], style)
    if style.labelled:
        large = {i for i in visible if extent[i] >= _LABELLED_EXTENT}
        for i in (i for i in detections.by_priority() if i in large):
            text = label_text(detections, i, class_names)
            anchors = _label_anchors(lower[i], upper[i])
            placer.place(text, anchors, text_color(colors[i]), _FONT_SIZE)
    return len(visible)


def _far_to_near(detections: LabelledBoxes, keyego2cam: Tensor) -> LabelledBoxes:
    """Sorts boxes by the depth of their centre, the farthest first."""
    depth = transform_points(detections.boxes.centers.double(), keyego2cam)[:, 2]
    return detections[depth.argsort(descending=True, stable=True)]


def _arrows(
    boxes: Boxes3D, visible: np.ndarray, keyego2cam: Tensor, lens: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Returns velocity arrows of visible boxes: (S, 2, 2) pixel segments and (S,) box indices."""
    arrows, owner = velocity_arrows(boxes)
    is_visible = np.isin(owner, visible)
    strokes = transform_points(torch.from_numpy(arrows[is_visible]), keyego2cam).numpy()
    owner = owner[is_visible].repeat(strokes.shape[1])
    strokes, which = segments_on_image(strokes.reshape(-1, 2, 3), *lens)
    return strokes, owner[which]


def _extents(
    segments: np.ndarray, owner: np.ndarray, num_boxes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Computes (M, 2) lower and upper bounds of each box's segments, in pixels.

    A box without segments has the bounds inf and -inf.
    """
    lower, upper = np.full((num_boxes, 2), np.inf), np.full((num_boxes, 2), -np.inf)
    # A box owns several segments: indexed assignment would keep only one of them.
    np.minimum.at(lower, owner, segments.min(axis=1))
    np.maximum.at(upper, owner, segments.max(axis=1))
    return lower, upper


def _label_anchors(lower: np.ndarray, upper: np.ndarray) -> list[tuple[float, float, str, str]]:
    """Returns label anchors for a box: above, below, and inside for boxes that fill the image.

    Each side has three anchors: left, right and centre.
    """
    (left, top), (right, bottom) = lower, upper
    sides = ((left, "left"), (right, "right"), ((left + right) / 2, "center"))
    above = [(x, top, align, "bottom") for x, align in sides]
    below = [(x, bottom, align, "top") for x, align in sides]
    return above + below + [(x, top, align, "top") for x, align in sides]
