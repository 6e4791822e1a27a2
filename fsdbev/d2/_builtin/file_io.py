"""Built-in ``detectron2.utils.file_io``: iopath's path manager for local paths and URLs."""

from iopath.common.file_io import HTTPURLHandler, PathManager as _PathManager

PathManager = _PathManager()
PathManager.register_handler(HTTPURLHandler())
