"""Names of ``detectron2.utils.logger``."""

from .. import BACKEND

if BACKEND == "detectron2":
    from detectron2.utils.logger import log_every_n_seconds, setup_logger
else:
    from .._builtin.logger import log_every_n_seconds, setup_logger

__all__ = ["log_every_n_seconds", "setup_logger"]
