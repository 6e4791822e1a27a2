"""Convolution blocks shared by the parts of the model.

Shapes: B batch (images or BEV maps), C channels, (H, W) size of the map.
"""

from __future__ import annotations

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

#: Initial bias of heatmap logits, a probability of 0.1 (CenterNet, arXiv:1904.07850). Most cells
#: are background; at a probability of 0.5 their loss would dominate the first iterations.
HEATMAP_PRIOR_BIAS = -2.19


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """Builds a 3x3 convolution with padding 1, which keeps the size at stride 1."""
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
    """Builds a convolution that keeps the size, BatchNorm and ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel, odd.
        dilation: dilation of the kernel.
        bias: whether the convolution has a bias.
        bn_momentum: momentum of the BatchNorm.
    """
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=bias),
        nn.BatchNorm2d(out_channels, momentum=bn_momentum),
        nn.ReLU(inplace=True),
    )


def heatmap_head(channels: int, out_channels: int) -> nn.Sequential:
    """Builds conv3x3-ReLU-conv1x1 for logits whose bias starts at ``HEATMAP_PRIOR_BIAS``."""
    head = nn.Sequential(
        conv3x3(channels, channels, bias=True),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, out_channels, 1),
    )
    nn.init.constant_(head[-1].bias, HEATMAP_PRIOR_BIAS)
    return head


def kaiming_init(module: Module) -> Module:
    """Initialises every convolution in ``module``: Kaiming-normal weights (fan-out), zero biases.

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
    """conv3x3-BN-ReLU-conv3x3-BN, plus shortcut, ReLU; parameter names as torchvision's.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: stride of the first convolution.
        downsample: module of the shortcut; identity if None.
        bn_momentum: momentum of both BatchNorms.

    Raises:
        ValueError: ``downsample`` is None, but the block changes the channels or the size.
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
