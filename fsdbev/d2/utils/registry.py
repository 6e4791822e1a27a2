"""Names of ``detectron2.utils.registry``."""

from .. import BACKEND

if BACKEND == "detectron2":
    from detectron2.utils.registry import Registry
else:
    from .._builtin.registry import Registry

__all__ = ["Registry"]
