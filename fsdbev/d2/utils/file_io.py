"""Names of ``detectron2.utils.file_io``."""

from .. import BACKEND

if BACKEND == "detectron2":
    from detectron2.utils.file_io import PathManager
else:
    from .._builtin.file_io import PathManager

__all__ = ["PathManager"]
