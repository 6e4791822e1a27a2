"""Classes of BEVDet and BEVDet4D; importing the package registers them."""

from .bevdet import BEVDet, BEVDet4D

__all__ = ["BEVDet", "BEVDet4D"]
