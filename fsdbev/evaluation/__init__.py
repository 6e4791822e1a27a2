"""Detection metrics: nuScenes' submission file and its official evaluation."""

from .attributes import attribute_of
from .nuscenes import NuScenesEvaluator
from .submission import (
    boxes_from_submission,
    boxes_to_submission,
    check_boxes,
    read_submission,
    write_submission,
)

__all__ = [
    "NuScenesEvaluator",
    "attribute_of",
    "boxes_from_submission",
    "boxes_to_submission",
    "check_boxes",
    "read_submission",
    "write_submission",
]
