"""BEV encoder that keeps the resolution and enlarges its receptive field by dilation.

Shapes: B samples, T frames, C channels, (Y, X) BEV grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fsdbev.modeling import PART_REGISTRY
from fsdbev.modeling.blocks import conv3x3, kaiming_init
from fsdbev.modeling.precision import full_precision


@PART_REGISTRY.register()
class DilatedBEVEncoder(nn.Module):
    """Residual 3x3 convolutions of growing dilation at the grid's resolution. Runs in float32.

    Accepts the arguments of ``BEVEncoder``, so that it can replace it in any config.

    Args:
        frame_channels: C, channels of one frame's map.
        num_frames: T; the input has T C channels.
        width: hidden channels; ``frame_channels`` if None.
        out_channels: channels of the output.
        bn_momentum: momentum of every BatchNorm.
        dilations: dilation of each block, cells.
    """

    def __init__(
        self,
        *,
        frame_channels: int,
        num_frames: int,
        width: int | None = None,
        out_channels: int = 256,
        bn_momentum: float = 0.1,
        dilations: Sequence[int] = (1, 2, 4, 8),
    ) -> None:
        super().__init__()
        self.saved_settings = {"dilations": dilations}
        width = frame_channels if width is None else width
        self.reduce = conv3x3(frame_channels * num_frames, width, bias=True)
        self.blocks = nn.ModuleList(_DilatedBlock(width, d, bn_momentum) for d in dilations)
        self.out = nn.Conv2d(width, out_channels, 1)
        kaiming_init(self)

    @full_precision
    def forward(self, bev_feats: Tensor) -> Tensor:
        """Encodes (B, T C, Y, X) frames as (B, out_channels, Y, X)."""
        x = self.reduce(bev_feats)
        for block in self.blocks:
            x = block(x)
        return self.out(x)


class _DilatedBlock(nn.Module):
    """Residual block with one dilated 3x3 convolution."""

    def __init__(self, channels: int, dilation: int, bn_momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.norm = nn.BatchNorm2d(channels, momentum=bn_momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Transforms a (B, C, Y, X) map; same shape out."""
        return F.relu(x + self.norm(self.conv(x)))
