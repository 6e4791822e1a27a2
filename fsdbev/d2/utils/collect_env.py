"""Names of ``detectron2.utils.collect_env``."""

from .. import BACKEND

if BACKEND == "detectron2":
    from detectron2.utils.collect_env import collect_env_info
else:
    from .._builtin.env import collect_env_info

__all__ = ["collect_env_info"]
