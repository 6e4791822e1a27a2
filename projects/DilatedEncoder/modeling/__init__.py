"""What this plugin adds."""

from .dilated_encoder import DilatedBEVEncoder

__all__ = ["DilatedBEVEncoder"]
