"""ResNet with torchvision's layout and parameter names (stride in the 3x3 convolution).

Shapes: V images, (H, W) image size, B batch, C channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fsdbev.d2.layers import ShapeSpec
from fsdbev.modeling.blocks import BasicBlock, conv3x3, kaiming_init
from fsdbev.modeling.registry import PART_REGISTRY

from .activation_checkpoint import checkpoint_module


class Bottleneck(nn.Module):
    """conv1x1-conv3x3-conv1x1 with BN, plus shortcut, ReLU; parameter names as torchvision's.

    Args:
        in_channels: channels of the input.
        channels: channels of the 3x3 convolution; the output has four times as many.
        stride: stride of the 3x3 convolution.
        downsample: module of the shortcut; identity if None.
        bn_momentum: momentum of every BatchNorm.
    """

    expansion = 4

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
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels, momentum=bn_momentum)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels, momentum=bn_momentum)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels, momentum=bn_momentum)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return F.relu(self.bn3(self.conv3(x)) + shortcut, inplace=True)


#: Depth -> block class and number of blocks of each stage.
ARCHITECTURES: dict[int, tuple[type[nn.Module], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


def _architecture(depth: int) -> tuple[type[nn.Module], tuple[int, int, int, int]]:
    if depth not in ARCHITECTURES:
        raise ValueError(f"ResNet depth must be one of {sorted(ARCHITECTURES)}, got {depth}")
    return ARCHITECTURES[depth]


def resnet_channels(depth: int, width: int = 64) -> tuple[int, int, int, int]:
    """Returns the channels of C2..C5 of ``ResNet(depth=depth, width=width)``.

    Raises:
        ValueError: ``depth`` is not one of ``ARCHITECTURES``.
    """
    block, _ = _architecture(depth)
    return tuple(width * 2**stage * block.expansion for stage in range(4))


@PART_REGISTRY.register()
class ResNet(nn.Module):
    """ResNet (arXiv:1512.03385) that returns C2..C5 at strides 4, 8, 16 and 32.

    Args:
        depth: 18, 34, 50 or 101.
        width: channels of the stem and of the first stage's 3x3 convolutions; 64 in the paper.
        bn_momentum: momentum of every BatchNorm.
        activation_checkpoint: recompute each block in the backward pass instead of storing its
            activations. Saves memory, costs time, and does not change the result.

    Raises:
        ValueError: ``depth`` is not one of ``ARCHITECTURES``.
    """

    def __init__(
        self,
        *,
        depth: int = 50,
        width: int = 64,
        bn_momentum: float = 0.1,
        activation_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        block, num_blocks = _architecture(depth)
        self.out_channels = resnet_channels(depth, width)
        self.activation_checkpoint = activation_checkpoint
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width, momentum=bn_momentum)
        in_channels = width
        for stage, (count, out_channels) in enumerate(
            zip(num_blocks, self.out_channels, strict=True)
        ):
            layer = _make_stage(
                block,
                count,
                in_channels=in_channels,
                channels=width * 2**stage,
                stride=1 if stage == 0 else 2,
                bn_momentum=bn_momentum,
            )
            # torchvision's names, so that its ImageNet weights load without renaming.
            self.add_module(f"layer{stage + 1}", layer)
            in_channels = out_channels
        kaiming_init(self)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Returns channels and stride of each map, as a Detectron2 backbone does."""
        names = ("res2", "res3", "res4", "res5")
        return {
            name: ShapeSpec(channels=channels, stride=4 * 2**level)
            for level, (name, channels) in enumerate(zip(names, self.out_channels, strict=True))
        }

    @property
    def stages(self) -> list[nn.Sequential]:
        """The four residual stages, fine to coarse."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Computes [C2, C3, C4, C5], each (V, C, H / stride, W / stride).

        Args:
            images: (V, 3, H, W) normalised images.
        """
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        features = []
        for stage in self.stages:
            for block in stage:
                x = self._run_block(block, x)
            features.append(x)
        return features

    def _run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        return checkpoint_module(block, x) if self.activation_checkpoint else block(x)


def _make_stage(
    block: type[nn.Module],
    count: int,
    *,
    in_channels: int,
    channels: int,
    stride: int,
    bn_momentum: float,
) -> nn.Sequential:
    out_channels = channels * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels, momentum=bn_momentum),
        )
    first = block(
        in_channels=in_channels,
        channels=channels,
        stride=stride,
        downsample=downsample,
        bn_momentum=bn_momentum,
    )
    rest = [
        block(in_channels=out_channels, channels=channels, bn_momentum=bn_momentum)
        for _ in range(count - 1)
    ]
    return nn.Sequential(first, *rest)
