"""Pictures: 3D boxes and training targets on camera images and from above. Needs no display."""

from .bev_view import draw_bev, draw_boxes_on_bev, draw_trails
from .drawing import PREDICTION, TRUTH, TRUTH_ALONE, BoxStyle, LabelPlacer
from .image_view import draw_boxes_on_image, draw_image
from .mosaic import mosaic
from .palette import CLASS_COLORS
from .sample import camera_views, choose_rows, draw_sample, rows_of, true_boxes
from .target_sheet import target_sheet
from .training_sample import augmented_sample, stored_sample
from .video import VideoWriter
from .views import CameraView, LabelledBoxes, LabelPoints, TargetView, TrainingSample

__all__ = [
    "CLASS_COLORS",
    "PREDICTION",
    "TRUTH",
    "TRUTH_ALONE",
    "BoxStyle",
    "CameraView",
    "LabelPlacer",
    "LabelPoints",
    "LabelledBoxes",
    "TargetView",
    "TrainingSample",
    "VideoWriter",
    "augmented_sample",
    "camera_views",
    "choose_rows",
    "draw_bev",
    "draw_boxes_on_bev",
    "draw_boxes_on_image",
    "draw_image",
    "draw_sample",
    "draw_trails",
    "mosaic",
    "rows_of",
    "stored_sample",
    "target_sheet",
    "true_boxes",
]
