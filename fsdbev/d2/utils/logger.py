"""``detectron2.utils.logger``, or its built-in replacement."""

from fsdbev.d2 import BACKEND

if BACKEND == "detectron2":
    from detectron2.utils.logger import setup_logger
else:
    from fsdbev.d2._builtin.logger import setup_logger

__all__ = ["setup_logger"]
