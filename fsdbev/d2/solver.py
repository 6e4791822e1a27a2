"""Names of ``detectron2.solver``."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.solver import LRMultiplier, WarmupParamScheduler
else:
    from ._builtin.solver import LRMultiplier, WarmupParamScheduler

__all__ = ["LRMultiplier", "WarmupParamScheduler"]
