"""Names of ``detectron2.utils.logger``."""

from .. import BACKEND

if BACKEND == "detectron2":
    from detectron2.utils.logger import setup_logger
else:
    from .._builtin.logger import setup_logger

__all__ = ["setup_logger"]
