"""Classes of SA-BEV; importing the package registers them."""

from .cross_task_head import CrossTaskHead
from .losses import semantic_loss, task_losses
from .predictions import SemanticDepth, TaskLogits
from .sabev import SABEV
from .semantic_depth_net import SemanticDepthNet

__all__ = [
    "CrossTaskHead",
    "SABEV",
    "SemanticDepth",
    "SemanticDepthNet",
    "TaskLogits",
    "semantic_loss",
    "task_losses",
]
