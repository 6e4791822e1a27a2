"""Detection metrics of any classes: submission files, nuScenes' metrics and its own evaluation."""

from .by_distance import DistanceBands
from .detection_evaluator import DetectionEvaluator
from .error_analysis import Analysis
from .image_masks import ImageMaskEvaluator
from .metrics import TP_ERROR_NAMES
from .nuscenes_evaluator import NuScenesEvaluator
from .scoring import ScoredDetections
from .submission import (
    attribute_of,
    boxes_from_submission,
    boxes_to_submission,
    check_boxes,
    read_submission,
    write_submission,
)

__all__ = [
    "TP_ERROR_NAMES",
    "Analysis",
    "DetectionEvaluator",
    "DistanceBands",
    "ImageMaskEvaluator",
    "NuScenesEvaluator",
    "ScoredDetections",
    "attribute_of",
    "boxes_from_submission",
    "boxes_to_submission",
    "check_boxes",
    "read_submission",
    "write_submission",
]
