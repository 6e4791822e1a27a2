"""What BEVDet adds."""

from .bevdet import BEVDet, BEVDet4D

__all__ = ["BEVDet", "BEVDet4D"]
