"""What BEVDepth adds."""

from .bevdepth import BEVDepth
from .refinement import DepthRefinement

__all__ = ["BEVDepth", "DepthRefinement"]
