"""``detectron2.utils.file_io``, or its built-in replacement."""

from fsdbev.d2 import BACKEND

if BACKEND == "detectron2":
    from detectron2.utils.file_io import PathManager
else:
    from fsdbev.d2._builtin.file_io import PathManager

__all__ = ["PathManager"]
