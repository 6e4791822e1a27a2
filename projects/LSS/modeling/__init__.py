"""What Lift, Splat, Shoot adds."""

from .lss import LSS
from .tasks import plain_nms_tasks

__all__ = ["LSS", "plain_nms_tasks"]
