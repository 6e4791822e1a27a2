"""A BEV encoder without downsampling: the plugin that projects/README.md explains."""

from .modeling import DilatedBEVEncoder

__all__ = ["DilatedBEVEncoder"]
