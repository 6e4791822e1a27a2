"""Meta-architectures: whole models, registered in Detectron2's META_ARCH_REGISTRY."""

from .fsdbev import FSDBEV
from .lift_splat_detector import Frame, LiftSplatDetector

__all__ = ["FSDBEV", "Frame", "LiftSplatDetector"]
