"""Pictures of samples: 3D boxes, training targets and model outputs on camera images and in BEV.

Renders with matplotlib's Agg backend and needs no display.
"""

from .bev_view import BEVArea, draw_bev, draw_boxes_on_bev, draw_trails
from .canvas import PALETTE
from .diagnostics_sheet import diagnostics_sheet
from .drawing import PREDICTION, TRUTH, TRUTH_ONLY, BoxStyle, LabelPlacer
from .image_view import draw_boxes_on_image, draw_image
from .mosaic import mosaic
from .sample import (
    camera_views,
    choose_rows,
    draw_sample,
    network_views,
    past_trajectories,
    rows_of,
    rows_of_scene,
    title_of,
    true_boxes,
)
from .target_sheet import target_sheet
from .training_curves import Scalar, training_curves
from .training_sample import augmented_sample, labelled_sample, stored_sample
from .video import VideoWriter
from .views import (
    CameraDiagnostics,
    CameraView,
    Diagnostics,
    LabelPoints,
    TargetView,
    TrainingSample,
)

__all__ = [
    "PALETTE",
    "PREDICTION",
    "TRUTH",
    "TRUTH_ONLY",
    "BEVArea",
    "BoxStyle",
    "CameraDiagnostics",
    "CameraView",
    "Diagnostics",
    "LabelPlacer",
    "LabelPoints",
    "Scalar",
    "TargetView",
    "TrainingSample",
    "VideoWriter",
    "augmented_sample",
    "camera_views",
    "choose_rows",
    "diagnostics_sheet",
    "draw_bev",
    "draw_boxes_on_bev",
    "draw_boxes_on_image",
    "draw_image",
    "draw_sample",
    "draw_trails",
    "labelled_sample",
    "mosaic",
    "network_views",
    "rows_of",
    "rows_of_scene",
    "stored_sample",
    "target_sheet",
    "title_of",
    "past_trajectories",
    "training_curves",
    "true_boxes",
]
