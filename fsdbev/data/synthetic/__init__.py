"""Synthetic street scenes, written as a valid nuScenes-format data set (version ``v1.0-synth``)."""

from .generator import VERSION, generate
from .options import FORMATS, SyntheticOptions

__all__ = ["FORMATS", "SyntheticOptions", "VERSION", "generate"]
