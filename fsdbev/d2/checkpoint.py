"""``detectron2.checkpoint``, or its built-in replacement."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.checkpoint import DetectionCheckpointer
else:
    from ._builtin.checkpoint import DetectionCheckpointer

__all__ = ["DetectionCheckpointer"]
