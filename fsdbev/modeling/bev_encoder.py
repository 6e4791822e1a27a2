"""BEV encoder: temporal stage, residual stages, neck (SPEC section 6). Runs in float32.

Shapes: B samples (student's, then teacher's), T frames, C channels, (Y, X) BEV grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import BasicBlock, conv3x3, conv_bn_relu, kaiming_init
from .precision import full_precision
from .registry import PART_REGISTRY


class ResidualStage(nn.Sequential):
    """Two BasicBlocks; the first one's shortcut is a 3x3 convolution with bias and without norm."""

    def __init__(
        self, *, in_channels: int, channels: int, stride: int = 1, bn_momentum: float = 0.1
    ) -> None:
        first = BasicBlock(
            in_channels=in_channels,
            channels=channels,
            stride=stride,
            downsample=conv3x3(in_channels, channels, stride, bias=True),
            bn_momentum=bn_momentum,
        )
        super().__init__(
            first, BasicBlock(in_channels=channels, channels=channels, bn_momentum=bn_momentum)
        )
        kaiming_init(self)


@PART_REGISTRY.register()
class TemporalStage(nn.Module):
    """One residual stage that every frame's pooled BEV map passes before frames are concatenated.

    Args:
        channels: C of a frame's map.
    """

    def __init__(self, *, channels: int, bn_momentum: float = 0.1) -> None:
        super().__init__()
        self.stage = ResidualStage(in_channels=channels, channels=channels, bn_momentum=bn_momentum)

    @full_precision
    def forward(self, pooled_bev: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, C, Y, X)."""
        return self.stage(pooled_bev)


@PART_REGISTRY.register()
class BEVEncoder(nn.Module):
    """Three residual stages of stride 2 each, and a neck back to the grid's resolution.

    Args:
        frame_channels: C of one frame's map.
        num_frames: T; the input has T C channels.
        width: the stages have 2, 4 and 8 times this many channels; ``frame_channels`` if None.
        out_channels: of the output; the neck has twice as many inside.
        bn_momentum: of every BatchNorm.
    """

    def __init__(
        self,
        *,
        frame_channels: int,
        num_frames: int,
        width: int | None = None,
        out_channels: int = 256,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        width = frame_channels if width is None else width
        in_channels = frame_channels * num_frames
        self.stages = nn.ModuleList()
        for channels in (2 * width, 4 * width, 8 * width):
            self.stages.append(
                ResidualStage(
                    in_channels=in_channels,
                    channels=channels,
                    stride=2,
                    bn_momentum=bn_momentum,
                )
            )
            in_channels = channels
        self.neck = BEVNeck(
            in_channels=(2 * width, 8 * width), out_channels=out_channels, bn_momentum=bn_momentum
        )

    @full_precision
    def forward(self, bev_feats: Tensor) -> Tensor:
        """(B, T C, Y, X) -> (B, out_channels, Y, X)."""
        height, width = bev_feats.shape[-2:]
        if height % 8 or width % 8:
            raise ValueError(
                f"BEV maps must be a multiple of 8 cells, got {height} x {width}; choose the "
                "range or the cell of the BEVGrid accordingly"
            )
        maps = []
        for stage in self.stages:
            bev_feats = stage(bev_feats)
            maps.append(bev_feats)
        return self.neck(maps[0], maps[-1])


class BEVNeck(nn.Module):
    """Joins the finest and the coarsest map and upsamples them to twice the finest one's size.

    Args:
        in_channels: of the finest and the coarsest map.
        out_channels: of the output; twice as many inside.
    """

    def __init__(
        self, *, in_channels: Sequence[int], out_channels: int, bn_momentum: float = 0.1
    ) -> None:
        super().__init__()
        mid = 2 * out_channels
        self.merge = nn.Sequential(
            *conv_bn_relu(sum(in_channels), mid, bn_momentum=bn_momentum),
            *conv_bn_relu(mid, mid, bn_momentum=bn_momentum),
        )
        self.refine = nn.Sequential(
            *conv_bn_relu(mid, out_channels, bn_momentum=bn_momentum),
            nn.Conv2d(out_channels, out_channels, 1),
        )
        kaiming_init(self)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """(B, C1, Y / 2, X / 2) and (B, C2, Y / 8, X / 8) -> (B, out_channels, Y, X)."""
        x = self.merge(torch.cat([fine, _upsample(coarse, 4)], dim=1))
        return self.refine(_upsample(x, 2))


def _upsample(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)
