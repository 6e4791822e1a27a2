"""Classes of the plugin; importing the package registers them."""

from .dilated_encoder import DilatedBEVEncoder

__all__ = ["DilatedBEVEncoder"]
