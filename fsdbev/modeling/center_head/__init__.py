"""Center head: maps, targets, losses, decoding."""

from .decode import CENTER_TASKS, CenterTask, CircleNMS, RotatedNMS
from .head import CenterHead
from .targets import CenterTargets

__all__ = ["CENTER_TASKS", "CenterHead", "CenterTask", "CircleNMS", "RotatedNMS", "CenterTargets"]
