"""``detectron2.structures``, or its built-in replacement."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.structures import Instances
else:
    from ._builtin.structures import Instances

__all__ = ["Instances"]
