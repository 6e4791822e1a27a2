"""Lift, Splat, Shoot as a detector. Enable with train.plugins=[projects.LSS]."""

from .modeling import LSS

__all__ = ["LSS"]
