"""Detection metrics: nuScenes' submission file and its official evaluation."""

from .analysis import Analysis
from .attributes import attribute_of
from .nuscenes import NuScenesEvaluator, ScoredDetections
from .submission import (
    boxes_from_submission,
    boxes_to_submission,
    check_boxes,
    read_submission,
    write_submission,
)

__all__ = [
    "Analysis",
    "NuScenesEvaluator",
    "ScoredDetections",
    "attribute_of",
    "boxes_from_submission",
    "boxes_to_submission",
    "check_boxes",
    "read_submission",
    "write_submission",
]
