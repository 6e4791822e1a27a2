"""Camera-aware depth and context network (docs/model.md, "Depth network").

The design is BEVDepth's (arXiv:2206.10092, "Camera-aware Depth Prediction").

Shapes: V images (the cameras of all samples), C context channels, D depth bins,
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

#: Length of ``Cameras.camera_vector``: intrinsics, augmentations and pose of a camera.
CAMERA_VECTOR_SIZE = 27


class CameraGate(nn.Module):
    """Squeeze-and-excitation gate on channels, driven by the camera vector.

    Args:
        camera_channels: length of the camera vector.
        channels: channels of the gated features.
    """

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
        """Scales the channels of each view.

        Args:
            x: (V, channels, h, w) features.
            camera: (V, camera_channels) normalised camera vectors.

        Returns:
            (V, channels, h, w).
        """
        gate = self.mlp(camera)[..., None, None]
        return x * self.expand(F.relu(self.reduce(gate))).sigmoid()


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabv3, arXiv:1706.05587).

    One 1x1 branch, dilated 3x3 branches and a global average branch, merged by a 1x1 convolution.

    Args:
        in_channels: channels of input and output.
        channels: channels of each branch.
        dilations: dilation of each 3x3 branch.
        dropout: dropout probability of the output.
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
        """Transforms (V, in_channels, h, w) features; same shape out."""
        # expand in place of upsampling: the same value in every cell, without a copy.
        pooled = self.global_branch(F.adaptive_avg_pool2d(x, 1)).expand(-1, -1, *x.shape[-2:])
        x = torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1)
        return self.dropout(self.project(x))


@PART_REGISTRY.register()
class DepthNet(nn.Module):
    """Predicts depth distribution and context per pixel, conditioned on the camera.

    Runs in float32 (docs/model.md, "Depth network").

    Args:
        in_channels: channels of the image features.
        mid_channels: hidden channels.
        context_channels: C.
        depth_bins: the depth bins; the network predicts a probability for each.
        aspp_channels: channels of each ASPP branch.
        dropout: dropout probability of the ASPP.
    """

    #: Names of the layers that ``embed`` runs.
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
        # BatchNorm cancels the bias in training; it is kept so that the release's weights load.
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

    # Apart from forward, since these layers do not depend on the camera vector, which contains the
    # key frame's pose. A stream computes them once per frame and reuses them for later key frames.
    @full_precision
    def embed(self, features: Tensor) -> Tensor:
        """Computes the part of the network that is independent of the camera.

        Args:
            features: (V, in_channels, h, w) image features.

        Returns:
            (V, mid_channels, h, w) float32, the input of ``forward``.
        """
        return self.reduce(features)

    @full_precision
    def forward(self, embedded: Tensor, camera_vector: Tensor) -> tuple[Tensor, Tensor]:
        """Predicts depth and context.

        Args:
            embedded: (V, mid_channels, h, w), the output of ``embed``.
            camera_vector: (V, 27) camera vectors, with the key frame's poses for every frame.

        Returns:
            (V, D, h, w) depth probability and (V, C, h, w) context, float32.
        """
        depth, context = self.branches(embedded, camera_vector)
        return self.depth_conv(depth).softmax(dim=1), context

    def branches(self, embedded: Tensor, camera_vector: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the features of both branches, for subclasses with other depth outputs.

        Args:
            embedded: as in ``forward``.
            camera_vector: as in ``forward``.

        Returns:
            (V, mid_channels, h, w) input of the last depth convolution and (V, C, h, w) context.
        """
        # Focal lengths are near 1e3, entries of rotations at most 1: normalised before the MLPs.
        camera = self.camera_norm(camera_vector)
        context = self.context_conv(self.context_gate(embedded, camera))
        return self.aspp(self.depth_blocks(self.depth_gate(embedded, camera))), context
