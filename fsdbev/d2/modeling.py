"""``detectron2.modeling``, or its built-in replacement."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.modeling import META_ARCH_REGISTRY
else:
    from ._builtin.modeling import META_ARCH_REGISTRY

__all__ = ["META_ARCH_REGISTRY"]
