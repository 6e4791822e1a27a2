"""Center head: branches, training targets, losses and decoding (CenterPoint, arXiv:2006.11275)."""

from .decode import CENTER_TASKS, CenterTask, CircleNMS, RotatedNMS
from .head import CenterHead
from .targets import CenterTargets

__all__ = ["CENTER_TASKS", "CenterHead", "CenterTask", "CircleNMS", "RotatedNMS", "CenterTargets"]
