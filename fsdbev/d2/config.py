"""``detectron2.config``, or its built-in replacement."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.config import LazyCall, LazyConfig, instantiate
else:
    from ._builtin.config import LazyCall, LazyConfig, instantiate

__all__ = ["LazyCall", "LazyConfig", "instantiate"]
