"""Classes of Lift, Splat, Shoot; importing the package registers them."""

from .lss import LSS
from .tasks import plain_nms_tasks

__all__ = ["LSS", "plain_nms_tasks"]
