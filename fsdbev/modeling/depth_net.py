"""Camera-aware depth and context network (BEVDepth, section 3.2; SPEC section 5).

Shapes: B samples, N cameras, V = B N images, C context channels, D depth bins,
(h, w) = (H, W) / 16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsdbev.structures import DepthBins

from .blocks import BasicBlock, conv_bn_relu, kaiming_init
from .precision import full_precision
from .registry import PART_REGISTRY

#: Length of ``Cameras.camera_vector``.
CAMERA_VECTOR_SIZE = 27


class CameraGate(nn.Module):
    """Scales channels by what an MLP makes of the camera vector (squeeze and excitation)."""

    def __init__(self, *, camera_channels: int, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(camera_channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
        )
        self.reduce = nn.Conv2d(channels, channels, 1)
        self.expand = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, camera: Tensor) -> Tensor:
        """(V, channels, h, w) and (V, camera_channels) -> (V, channels, h, w)."""
        gate = self.mlp(camera)[..., None, None]
        return x * self.expand(F.relu(self.reduce(gate))).sigmoid()


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, dilated 3x3 and global branches, then one 1x1.

    Args:
        in_channels: of input and output.
        channels: of each branch.
        dilations: one 3x3 branch each.
        dropout: probability, on the output.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        dilations: Sequence[int] = (6, 12, 18),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_bn_relu(in_channels, channels, 1)])
        self.branches.extend(conv_bn_relu(in_channels, channels, dilation=d) for d in dilations)
        self.global_branch = conv_bn_relu(in_channels, channels, 1)
        self.project = conv_bn_relu(channels * (len(dilations) + 2), in_channels, 1)
        self.dropout = nn.Dropout(dropout)
        kaiming_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """(V, in_channels, h, w) -> (V, in_channels, h, w)."""
        whole = self.global_branch(F.adaptive_avg_pool2d(x, 1)).expand(-1, -1, *x.shape[-2:])
        x = torch.cat([*(branch(x) for branch in self.branches), whole], dim=1)
        return self.dropout(self.project(x))


@PART_REGISTRY.register()
class DepthNet(nn.Module):
    """Predicts a depth distribution and context features, knowing the camera. Runs in float32.

    Args:
        in_channels: of the image features.
        mid_channels: inside the network.
        context_channels: C.
        depth_bins: D comes from here.
        aspp_channels: of each ASPP branch.
        dropout: of the ASPP.
    """

    #: Layers that ``embed`` runs.
    image_layers = ("reduce",)

    def __init__(
        self,
        *,
        in_channels: int,
        mid_channels: int = 512,
        context_channels: int = 80,
        depth_bins: DepthBins,
        aspp_channels: int = 96,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.camera_norm = nn.BatchNorm1d(CAMERA_VECTOR_SIZE)
        self.reduce = conv_bn_relu(in_channels, mid_channels, bias=True)
        gate = {"camera_channels": CAMERA_VECTOR_SIZE, "channels": mid_channels}
        self.context_gate = CameraGate(**gate)
        self.context_conv = nn.Conv2d(mid_channels, context_channels, 1)
        self.depth_gate = CameraGate(**gate)
        self.depth_blocks = nn.Sequential(
            *(BasicBlock(in_channels=mid_channels, channels=mid_channels) for _ in range(3))
        )
        self.aspp = ASPP(in_channels=mid_channels, channels=aspp_channels, dropout=dropout)
        self.depth_conv = nn.Conv2d(mid_channels, depth_bins.count, 1)
        kaiming_init(self.reduce)
        kaiming_init(self.depth_blocks)

    @full_precision
    def embed(self, features: Tensor) -> Tensor:
        """(V, in_channels, h, w) -> (V, mid_channels, h, w) float32: what ``forward`` takes. As far
        as one gets without the camera vector, so it stays right for a frame of any key frame."""
        return self.reduce(features)

    @full_precision
    def forward(self, embedded: Tensor, camera_vector: Tensor) -> tuple[Tensor, Tensor]:
        """(V, mid_channels, h, w) of ``embed`` and (B, N, 27) camera vector of the key frame.

        Returns:
            (V, D, h, w) depth probability, (V, C, h, w) context; float32.
        """
        depth, context = self.branches(embedded, camera_vector)
        return self.depth_conv(depth).softmax(dim=1), context

    def branches(self, embedded: Tensor, camera_vector: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, but the (V, mid_channels, h, w) features that depth is read off, for a
        subclass that reads more off them."""
        camera = self.camera_norm(camera_vector.flatten(0, 1))
        context = self.context_conv(self.context_gate(embedded, camera))
        return self.aspp(self.depth_blocks(self.depth_gate(embedded, camera))), context
