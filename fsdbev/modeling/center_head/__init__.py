"""Center head: branches, training targets, losses and decoding (CenterPoint, arXiv:2006.11275)."""

from .head import CenterHead, center_range
from .regression import TrainingPredictions
from .targets import CenterTargets

__all__ = ["CenterHead", "CenterTargets", "TrainingPredictions", "center_range"]
