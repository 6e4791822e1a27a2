"""``detectron2.layers``, or its built-in replacement."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.layers import ShapeSpec
else:
    from ._builtin.layers import ShapeSpec

__all__ = ["ShapeSpec"]
