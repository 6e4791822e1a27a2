"""A BEV encoder that keeps every cell and sees far by dilation.

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
    """Residual 3x3 convolutions of growing dilation, all at the grid's resolution.

    Takes what ``BEVEncoder`` takes, so that it can stand in its place in any config.

    Args:
        frame_channels: C of one frame's map.
        num_frames: T; the input has T C channels.
        width: channels inside; ``frame_channels`` if None.
        out_channels: of the output.
        bn_momentum: of every BatchNorm.
        dilations: one block each, in cells.
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
        width = frame_channels if width is None else width
        self.reduce = conv3x3(frame_channels * num_frames, width, bias=True)
        self.blocks = nn.ModuleList(_DilatedBlock(width, d, bn_momentum) for d in dilations)
        self.out = nn.Conv2d(width, out_channels, 1)
        kaiming_init(self)

    @full_precision
    def forward(self, bev_feats: Tensor) -> Tensor:
        """(B, T C, Y, X) -> (B, out_channels, Y, X)."""
        x = self.reduce(bev_feats)
        for block in self.blocks:
            x = block(x)
        return self.out(x)


class _DilatedBlock(nn.Module):
    def __init__(self, channels: int, dilation: int, bn_momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.norm = nn.BatchNorm2d(channels, momentum=bn_momentum)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, C, Y, X)."""
        return F.relu(x + self.norm(self.conv(x)))
