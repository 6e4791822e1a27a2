"""Classes of BEVDepth; importing the package registers them."""

from .bevdepth import BEVDepth
from .refinement import DepthRefinement

__all__ = ["BEVDepth", "DepthRefinement"]
