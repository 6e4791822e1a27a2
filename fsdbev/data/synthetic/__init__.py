"""Synthetic street scenes, written as a valid nuScenes-format data set (version ``v1.0-synth``)."""

from .generator import VERSION, generate
from .options import SyntheticOptions

__all__ = ["SyntheticOptions", "VERSION", "generate"]
