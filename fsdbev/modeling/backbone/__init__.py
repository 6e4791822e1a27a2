"""Image backbone (ResNet) and feature pyramid (FPN)."""

from .fpn import FPN
from .resnet import ResNet, resnet_channels

__all__ = ["FPN", "ResNet", "resnet_channels"]
