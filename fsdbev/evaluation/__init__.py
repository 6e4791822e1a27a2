"""Detection metrics: nuScenes' submission file and its official evaluation."""

from .analysis import Analysis
from .attributes import attribute_of
from .box_arrays import CLASSES
from .by_distance import BAND_STARTS, DistanceBands
from .nuscenes import NuScenesEvaluator
from .report import TP_ERROR_NAMES
from .scoring import ScoredDetections
from .submission import (
    boxes_from_submission,
    boxes_to_submission,
    check_boxes,
    read_submission,
    write_submission,
)

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
