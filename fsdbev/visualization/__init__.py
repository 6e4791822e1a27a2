"""Pictures: 3D boxes on camera images, from above, and both together. Needs no display."""

from .bev_view import draw_bev, draw_boxes_on_bev
from .drawing import PREDICTION, TRUTH, TRUTH_ALONE, BoxStyle, LabelPlacer
from .image_view import draw_boxes_on_image, draw_image
from .mosaic import mosaic
from .palette import CLASS_COLORS
from .sample import camera_views, choose_rows, draw_sample, rows_of, true_boxes
from .views import CameraView, LabelledBoxes

__all__ = [
    "CLASS_COLORS",
    "PREDICTION",
    "TRUTH",
    "TRUTH_ALONE",
    "BoxStyle",
    "CameraView",
    "LabelPlacer",
    "LabelledBoxes",
    "camera_views",
    "choose_rows",
    "draw_bev",
    "draw_boxes_on_bev",
    "draw_boxes_on_image",
    "draw_image",
    "draw_sample",
    "mosaic",
    "rows_of",
    "true_boxes",
]
