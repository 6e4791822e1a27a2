"""Classes of Lift, Splat, Shoot; importing the package registers them."""

from .lss import LSS

__all__ = ["LSS"]
