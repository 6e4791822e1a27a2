"""Meta-architectures, registered in Detectron2's META_ARCH_REGISTRY."""

from .fsdbev import FSDBEV
from .image_pretraining import ImagePretraining
from .lift_splat_detector import FrameFeatures, LiftSplatDetector

__all__ = ["FSDBEV", "FrameFeatures", "ImagePretraining", "LiftSplatDetector"]
