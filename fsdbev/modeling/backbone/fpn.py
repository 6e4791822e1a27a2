"""Feature pyramid network (FPN, arXiv:1612.03144) with outputs at strides 4, 8 and 16.

Shapes: V images, C channels, (H, W) image size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fsdbev.modeling.blocks import conv3x3
from fsdbev.modeling.registry import PART_REGISTRY


@PART_REGISTRY.register()
class FPN(nn.Module):
    """Top-down feature pyramid without norm or activation (docs/model.md, "Image branch").

    Every backbone map has a lateral convolution. Every level except the coarsest has an output
    convolution.

    Args:
        in_channels: channels of the backbone's maps C2..C5, fine to coarse. None: the model calls
            :meth:`build` with those of its backbone's ``output_shape()``.
        out_channels: channels of every pyramid map.
        skip_finest: number of finest levels to leave out, for models that only use coarser ones.

    Raises:
        ValueError: ``skip_finest`` is negative or leaves fewer than two maps.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int] | None = None,
        out_channels: int = 512,
        skip_finest: int = 0,
    ) -> None:
        super().__init__()
        self.in_channels = None
        self.out_channels = out_channels
        self.skip_finest = skip_finest
        if in_channels is not None:
            self.build(in_channels)

    def build(self, in_channels: Sequence[int]) -> None:
        """Creates the convolutions for maps of these channels, fine to coarse.

        Raises:
            ValueError: ``skip_finest`` is negative or leaves fewer than two maps.
        """
        self.in_channels = tuple(in_channels)
        skip_finest, out_channels = self.skip_finest, self.out_channels
        if not 0 <= skip_finest <= len(in_channels) - 2:
            raise ValueError(
                f"skip_finest must leave two of the {len(in_channels)} maps, got {skip_finest}"
            )
        in_channels = in_channels[skip_finest:]
        self.lateral_convs = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in in_channels)
        self.output_convs = nn.ModuleList(
            conv3x3(out_channels, out_channels, bias=True) for _ in in_channels[:-1]
        )
        for conv in [*self.lateral_convs, *self.output_convs]:
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Computes the pyramid of a batch of images.

        Args:
            features: [C2, C3, C4, C5] of the backbone.

        Returns:
            [F4, F8, F16] without the first ``skip_finest``, each (V, C, H / stride, W / stride).

        Raises:
            ValueError: the number of maps is not that of ``in_channels``.
        """
        features = features[self.skip_finest :]
        if len(features) != len(self.lateral_convs):
            raise ValueError(
                f"FPN takes {self.skip_finest + len(self.lateral_convs)} maps, got "
                f"{self.skip_finest + len(features)}"
            )
        merged = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        for level in range(len(merged) - 1, 0, -1):
            finer = merged[level - 1]
            # By size, not by a factor of 2: odd sizes are rounded up by the backbone's strides.
            merged[level - 1] = finer + F.interpolate(merged[level], size=finer.shape[-2:])
        return [conv(x) for conv, x in zip(self.output_convs, merged[:-1], strict=True)]
