"""``detectron2.solver``, or its built-in replacement."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.solver import LRMultiplier, WarmupParamScheduler
else:
    from ._builtin.solver import LRMultiplier, WarmupParamScheduler

__all__ = ["LRMultiplier", "WarmupParamScheduler"]
