"""BEVDepth. Enable with train.plugins=[projects.BEVDepth]."""

from .modeling import BEVDepth, DepthRefinement

__all__ = ["BEVDepth", "DepthRefinement"]
