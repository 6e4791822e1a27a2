"""Names of ``detectron2.utils.env``."""

from .. import BACKEND

if BACKEND == "detectron2":
    from detectron2.utils.env import seed_all_rng
else:
    from .._builtin.env import seed_all_rng

__all__ = ["seed_all_rng"]
