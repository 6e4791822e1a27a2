"""BEVDet and BEVDet4D. Enable with train.plugins=[projects.BEVDet]."""

from .modeling import BEVDet, BEVDet4D

__all__ = ["BEVDet", "BEVDet4D"]
