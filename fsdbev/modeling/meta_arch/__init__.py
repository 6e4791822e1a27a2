"""Meta-architectures: whole models, registered in Detectron2's META_ARCH_REGISTRY."""

from .fsdbev import FSDBEV

__all__ = ["FSDBEV"]
