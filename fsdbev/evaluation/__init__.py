"""Detection metrics: nuScenes' submission file and its official evaluation."""

from .box_arrays import CLASSES
from .by_distance import BAND_STARTS, DistanceBands
from .error_analysis import Analysis
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
from .summary import TP_ERROR_NAMES

__all__ = [
    "BAND_STARTS",
    "CLASSES",
    "TP_ERROR_NAMES",
    "Analysis",
    "DistanceBands",
    "NuScenesEvaluator",
    "ScoredDetections",
    "attribute_of",
    "boxes_from_submission",
    "boxes_to_submission",
    "check_boxes",
    "read_submission",
    "write_submission",
]
