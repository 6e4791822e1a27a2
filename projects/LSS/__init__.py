"""Lift, Splat, Shoot as a detector. Enable with train.plugins=[projects.LSS]."""

from .modeling import LSS, plain_nms_tasks

__all__ = ["LSS", "plain_nms_tasks"]
