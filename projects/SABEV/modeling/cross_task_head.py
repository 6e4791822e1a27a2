"""Multi-scale cross-task head (SA-BEV, arXiv:2307.11477, section 3.4).

Predicts depth, semantics and context at stride 16, exchanges gated features between depth and
semantics, and refines all three at stride 8 with features of the backbone.

Shapes: V images (the cameras of all samples), C context channels, D depth bins,
(h, w) = (H, W) / 8, (h', w') size of any map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fsdbev.modeling.blocks import BasicBlock, conv3x3, conv_bn_relu, kaiming_init
from fsdbev.modeling.depth_net import ASPP, CAMERA_VECTOR_SIZE, CameraGate
from fsdbev.modeling.precision import full_precision
from fsdbev.modeling.registry import PART_REGISTRY
from fsdbev.structures import DepthBins

from .predictions import SemanticDepth, TaskLogits


@PART_REGISTRY.register()
class CrossTaskHead(nn.Module):
    """Camera-aware head for depth and semantics at two scales and context at the finer one.

    Runs in float32.

    Args:
        in_channels: channels of the pyramid's map at stride 16.
        backbone_channels: channels of the backbone's maps, fine to coarse; the one at stride 8 is
            used.
        mid_channels: hidden channels at stride 16.
        fine_mid_channels: hidden channels at stride 8.
        context_channels: C.
        depth_bins: the depth bins; the network predicts a probability for each.
        aspp_channels: channels of each ASPP branch.
        dropout: dropout probability of the ASPP.
    """

    #: Names of the layers that ``embed`` runs.
    image_layers = ("reduce", "fine_reduce")
    #: Index of the backbone map that ``embed`` also takes: C3 of C2..C5.
    fine_level = 1

    def __init__(
        self,
        *,
        in_channels: int,
        backbone_channels: Sequence[int],
        mid_channels: int = 512,
        fine_mid_channels: int = 256,
        context_channels: int = 80,
        depth_bins: DepthBins,
        aspp_channels: int = 512,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.camera_norm = nn.BatchNorm1d(CAMERA_VECTOR_SIZE)
        self.reduce = _initialised_conv_bn_relu(in_channels, mid_channels)
        self.gate = CameraGate(camera_channels=CAMERA_VECTOR_SIZE, channels=mid_channels)
        self.aspp = ASPP(in_channels=mid_channels, channels=aspp_channels, dropout=dropout)
        self.tasks = _ScaleTasks(mid_channels, depth_bins.count)
        self.exchange = _TaskExchange(mid_channels)
        fine_channels = backbone_channels[self.fine_level]
        self.fine_reduce = _initialised_conv_bn_relu(fine_channels, fine_mid_channels)
        self.fine_gate = CameraGate(camera_channels=CAMERA_VECTOR_SIZE, channels=fine_mid_channels)
        self.fine_steps = nn.ModuleList(
            _FineStep(mid_channels, fine_mid_channels) for _ in ("depth", "semantics", "context")
        )
        self.fine_tasks = _ScaleTasks(fine_mid_channels, depth_bins.count)
        self.context_conv = nn.Conv2d(fine_mid_channels, context_channels, 1)

    @full_precision
    def embed(self, features: Tensor, fine: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the part of the network that is independent of the camera.

        Args:
            features: (V, in_channels, h / 2, w / 2) map of the pyramid.
            fine: (V, C', h, w) map of the backbone.

        Returns:
            (V, mid_channels, h / 2, w / 2) and (V, fine_mid_channels, h, w) float32, the input of
            ``forward``.

        Raises:
            ValueError: the fine map is not twice as large as the other.
        """
        size, fine_size = tuple(features.shape[-2:]), tuple(fine.shape[-2:])
        if fine_size != (2 * size[0], 2 * size[1]):
            raise ValueError(
                f"CrossTaskHead takes maps of strides 16 and 8, the second twice as large, got "
                f"{size} and {fine_size}; height and width of the image must be multiples of 16"
            )
        return self.reduce(features), self.fine_reduce(fine)

    @full_precision
    def forward(self, embedded: Tensor, fine: Tensor, camera_vector: Tensor) -> SemanticDepth:
        """Predicts depth and semantics at both scales and context at the finer one.

        Args:
            embedded: (V, mid_channels, h / 2, w / 2), first output of ``embed``.
            fine: (V, fine_mid_channels, h, w), second output of ``embed``.
            camera_vector: (V, 27) camera vectors of the key frame.

        Returns:
            Float32 logits at (h / 2, w / 2) and (h, w), and context at (h, w).
        """
        camera = self.camera_norm(camera_vector)
        shared = self.aspp(self.gate(embedded, camera))
        fine = self.fine_gate(fine, camera)
        logits, (depth, semantic, context) = self.tasks(shared, shared, shared)
        depth, semantic = self.exchange(depth, semantic)
        maps = (depth, semantic, context)
        maps = [step(x, fine) for step, x in zip(self.fine_steps, maps, strict=True)]
        fine_logits, (_, _, context) = self.fine_tasks(*maps)
        return SemanticDepth(scales=(logits, fine_logits), context=self.context_conv(context))


class _ScaleTasks(nn.Module):
    """Decoders of depth, semantics and context at one scale; the first two have outputs."""

    def __init__(self, channels: int, num_bins: int) -> None:
        super().__init__()
        self.depth = _decoder(channels)
        self.depth_conv = nn.Conv2d(channels, num_bins, 1)
        self.semantic = _decoder(channels)
        self.semantic_conv = nn.Conv2d(channels, 2, 1)
        self.context = _initialised_conv_bn_relu(channels, channels)

    def forward(
        self, depth: Tensor, semantic: Tensor, context: Tensor
    ) -> tuple[TaskLogits, tuple[Tensor, Tensor, Tensor]]:
        """Decodes three (V, channels, h', w') maps.

        Returns:
            Logits of depth and semantics, and (V, channels, h', w') features of the three tasks.
        """
        depth, semantic, context = self.depth(depth), self.semantic(semantic), self.context(context)
        logits = TaskLogits(depth=self.depth_conv(depth), semantic=self.semantic_conv(semantic))
        return logits, (depth, semantic, context)


class _GatedConv(nn.Module):
    """Convolution of a source map, gated by a convolution of the target map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)
        self.gate = conv3x3(channels, channels)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Computes (V, channels, h', w') features to add to ``target``, of the same size."""
        return self.conv(source) * self.gate(target).sigmoid()


class _TaskExchange(nn.Module):
    """Adds gated depth features to the semantic ones and vice versa."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_depth = _GatedConv(channels)
        self.to_semantic = _GatedConv(channels)

    def forward(self, depth: Tensor, semantic: Tensor) -> tuple[Tensor, Tensor]:
        """Exchanges features of two (V, channels, h', w') maps; same shapes out."""
        # Both terms are computed from the inputs, before either is updated.
        to_depth, to_semantic = self.to_depth(semantic, depth), self.to_semantic(depth, semantic)
        return depth + to_depth, semantic + to_semantic


class _FineStep(nn.Module):
    """Upsamples the map of one task and adds gated features of the finer map."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = conv3x3(in_channels, channels, bias=True)
        self.message = _GatedConv(channels)

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:
        """Fuses two scales.

        Args:
            x: (V, in_channels, h / 2, w / 2) features of the task.
            fine: (V, channels, h, w) features of the finer map.

        Returns:
            (V, channels, h, w).
        """
        x = self.reduce(F.interpolate(x, size=fine.shape[-2:], mode="bilinear"))
        return x + self.message(fine, x)


def _decoder(channels: int) -> nn.Sequential:
    """Builds two BasicBlocks and a convolution block."""
    blocks = [BasicBlock(in_channels=channels, channels=channels) for _ in range(2)]
    return nn.Sequential(*map(kaiming_init, blocks), _initialised_conv_bn_relu(channels, channels))


def _initialised_conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """Builds a 3x3 convolution with bias, BatchNorm and ReLU, with Kaiming initialisation."""
    return kaiming_init(conv_bn_relu(in_channels, out_channels, bias=True))
