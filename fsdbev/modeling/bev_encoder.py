"""BEV encoder: temporal stage, residual stages and neck (docs/model.md, "View transform").

Shapes: B samples (in training of FSD-BEV the student's, then the teacher's), T frames, C channels,
(Y, X) BEV grid.
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
    """Two BasicBlocks. The first block's shortcut is a 3x3 convolution with bias and without norm.

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: stride of the first block.
        bn_momentum: momentum of every BatchNorm.
    """

    def __init__(
        self, *, in_channels: int, channels: int, stride: int = 1, bn_momentum: float = 0.1
    ) -> None:
        # ResNet's shortcut is a 1x1 convolution with norm, and only where the shape changes. The
        # release has this one in every stage, also at stride 1; kept so that its weights fit.
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
    """Residual stage applied to the pooled BEV map of each frame before frames are concatenated.

    All frames share its weights. Runs in float32.

    Args:
        channels: C, channels of one frame's map.
        bn_momentum: momentum of every BatchNorm.
    """

    def __init__(self, *, channels: int, bn_momentum: float = 0.1) -> None:
        super().__init__()
        self.stage = ResidualStage(in_channels=channels, channels=channels, bn_momentum=bn_momentum)

    @full_precision
    def forward(self, pooled_bev: Tensor) -> Tensor:
        """Refines the (B, C, Y, X) map of one frame; same shape out."""
        return self.stage(pooled_bev)


@PART_REGISTRY.register()
class BEVEncoder(nn.Module):
    """Three residual stages of stride 2 and a neck that restores the grid's resolution.

    Runs in float32 (docs/model.md, "Depth network"). The sides of its maps are multiples of
    ``stride`` cells, which the model checks for its grid.

    Args:
        frame_channels: C, channels of one frame's map.
        num_frames: T; the input has T C channels.
        width: base width; the stages have 2, 4 and 8 times as many channels. ``frame_channels`` if
            None.
        out_channels: channels of the output; the neck has twice as many inside.
        bn_momentum: momentum of every BatchNorm.
    """

    #: Stride of the coarsest map. The neck upsamples by fixed factors, so that maps whose sides the
    #: stages round would no longer match.
    stride = 8

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

    # The maps are sums over many frustum points per cell, and the neck adds stages of different
    # scale. bfloat16 would round both to 8 significant bits.
    @full_precision
    def forward(self, bev_feats: Tensor) -> Tensor:
        """Encodes the concatenated frames.

        Args:
            bev_feats: (B, T C, Y, X), frame by frame along the channels.

        Returns:
            (B, out_channels, Y, X) float32.
        """
        maps = []
        for stage in self.stages:
            bev_feats = stage(bev_feats)
            maps.append(bev_feats)
        return self.neck(maps[0], maps[-1])


class BEVNeck(nn.Module):
    """Merges the stride-2 and the stride-8 map and upsamples the result to the grid's resolution.

    Args:
        in_channels: channels of the stride-2 map and of the stride-8 map.
        out_channels: channels of the output; the first two convolutions have twice as many.
        bn_momentum: momentum of every BatchNorm.
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
        """Merges two maps.

        Args:
            fine: (B, C1, Y / 2, X / 2).
            coarse: (B, C2, Y / 8, X / 8).

        Returns:
            (B, out_channels, Y, X).
        """
        x = self.merge(torch.cat([fine, _upsample(coarse, 4)], dim=1))
        return self.refine(_upsample(x, 2))


def _upsample(x: Tensor, factor: int) -> Tensor:
    # align_corners=True is the rule of the release (docs/model.md, "View transform").
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=True)
