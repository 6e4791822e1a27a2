"""Names of ``detectron2.checkpoint``."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.checkpoint import Checkpointer, DetectionCheckpointer, PeriodicCheckpointer
else:
    from ._builtin.checkpoint import Checkpointer, DetectionCheckpointer, PeriodicCheckpointer

__all__ = ["Checkpointer", "DetectionCheckpointer", "PeriodicCheckpointer"]
