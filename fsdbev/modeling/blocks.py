"""Convolution blocks that several parts share.

Shapes: B batch (any stacked images or maps), C channels, H, W size of the map.
"""

from __future__ import annotations

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

#: Heatmaps start at a probability of 0.1: most cells are background.
HEATMAP_PRIOR_BIAS = -2.19


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """3x3 convolution that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    *,
    dilation: int = 1,
    bias: bool = False,
    bn_momentum: float = 0.1,
) -> nn.Sequential:
    """Convolution that keeps the size, BatchNorm, ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=bias),
        nn.BatchNorm2d(out_channels, momentum=bn_momentum),
        nn.ReLU(inplace=True),
    )


def heatmap_head(channels: int, out_channels: int) -> nn.Sequential:
    """conv3x3-ReLU-conv1x1; its logits start at ``HEATMAP_PRIOR_BIAS``."""
    head = nn.Sequential(
        conv3x3(channels, channels, bias=True),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, out_channels, 1),
    )
    nn.init.constant_(head[-1].bias, HEATMAP_PRIOR_BIAS)
    return head


def kaiming_init(module: Module) -> Module:
    """Kaiming-normal weights for a ReLU behind every convolution in ``module``, biases zero.

    Returns:
        ``module`` itself.
    """
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
    return module


class BasicBlock(nn.Module):
    """conv3x3-BN-ReLU-conv3x3-BN plus shortcut, ReLU; parameter names as torchvision's.

    Args:
        downsample: the shortcut; the identity if None, which needs equal channels and stride 1.
    """

    expansion = 1

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if downsample is None and (in_channels != channels or stride != 1):
            raise ValueError(
                f"BasicBlock {in_channels} -> {channels} with stride {stride} needs a downsample"
            )
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels, momentum=bn_momentum)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels, momentum=bn_momentum)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + shortcut, inplace=True)
