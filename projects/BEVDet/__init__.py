"""BEVDet and BEVDet4D: a plugin, train.plugins=[projects.BEVDet]."""

from .modeling import BEVDet, BEVDet4D

__all__ = ["BEVDet", "BEVDet4D"]
