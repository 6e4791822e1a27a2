"""BEV encoder without downsampling, the tutorial plugin of projects/README.md."""

from .modeling import DilatedBEVEncoder

__all__ = ["DilatedBEVEncoder"]
