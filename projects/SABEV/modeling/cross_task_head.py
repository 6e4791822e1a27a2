"""Multi-scale cross-task head (SA-BEV, section 3.4).

Depth, semantics and context are worked out at stride 16, depth and semantics tell each other what
they found, and all three go on at stride 8 with the backbone's finer features.

Shapes: V images, C context channels, D depth bins, (h, w) = (H, W) / 8, (h', w') any map.
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
    """Predicts depth and semantics at two scales, and context at the finer one, knowing the camera.
    Runs in float32.

    Args:
        in_channels: of the pyramid's features at stride 16.
        backbone_channels: of the backbone's maps, fine to coarse; it takes the one of stride 8.
        mid_channels, fine_mid_channels: inside the network at stride 16 and 8.
        context_channels: C.
        depth_bins: D comes from here.
        aspp_channels: of each ASPP branch.
        dropout: of the ASPP.
    """

    #: Layers that ``embed`` runs.
    image_layers = ("reduce", "fine_reduce")
    #: Which of the backbone's maps ``embed`` takes beside the pyramid's: C3 of C2..C5.
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
        """As far as one gets without the camera vector, so it stays right for a frame of any key
        frame.

        Args:
            features: (V, in_channels, h / 2, w / 2).
            fine: (V, C', h, w), the backbone's map.

        Returns:
            (V, mid_channels, h / 2, w / 2) and (V, fine_mid_channels, h, w) float32: what
            ``forward`` takes.

        Raises:
            ValueError: the fine map is not twice as large as the other.
        """
        size, fine_size = tuple(features.shape[-2:]), tuple(fine.shape[-2:])
        if fine_size != (2 * size[0], 2 * size[1]):
            raise ValueError(
                f"CrossTaskHead takes maps of strides 16 and 8, the second twice as large; got "
                f"{size} and {fine_size}. Height and width of the image must be multiples of 16"
            )
        return self.reduce(features), self.fine_reduce(fine)

    @full_precision
    def forward(self, embedded: Tensor, fine: Tensor, camera_vector: Tensor) -> SemanticDepth:
        """Both maps of ``embed`` and (B, N, 27) camera vector of the key frame -> float32 logits at
        (h / 2, w / 2) and (h, w), and context at (h, w)."""
        camera = self.camera_norm(camera_vector.flatten(0, 1))
        shared = self.aspp(self.gate(embedded, camera))
        fine = self.fine_gate(fine, camera)
        logits, (depth, semantic, context) = self.tasks(shared, shared, shared)
        depth, semantic = self.exchange(depth, semantic)
        maps = (depth, semantic, context)
        maps = [step(x, fine) for step, x in zip(self.fine_steps, maps, strict=True)]
        fine_logits, (_, _, context) = self.fine_tasks(*maps)
        return SemanticDepth(scales=(logits, fine_logits), context=self.context_conv(context))


class _ScaleTasks(nn.Module):
    """The three tasks at one scale, each on a map of its own; context has nothing to predict."""

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
        """Three (V, channels, h', w') -> logits, and features of the three tasks alike."""
        depth, semantic, context = self.depth(depth), self.semantic(semantic), self.context(context)
        logits = TaskLogits(depth=self.depth_conv(depth), semantic=self.semantic_conv(semantic))
        return logits, (depth, semantic, context)


class _Message(nn.Module):
    """What one map has to say to another, whose own gate decides how much of it gets through."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)
        self.gate = conv3x3(channels, channels)

    def forward(self, sender: Tensor, receiver: Tensor) -> Tensor:
        """Two (V, channels, h', w') -> one."""
        return self.conv(sender) * self.gate(receiver).sigmoid()


class _TaskExchange(nn.Module):
    """Depth and semantics receive each other's message, as they were before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_depth = _Message(channels)
        self.to_semantic = _Message(channels)

    def forward(self, depth: Tensor, semantic: Tensor) -> tuple[Tensor, Tensor]:
        """Two (V, channels, h', w') -> two."""
        to_depth, to_semantic = self.to_depth(semantic, depth), self.to_semantic(depth, semantic)
        return depth + to_depth, semantic + to_semantic


class _FineStep(nn.Module):
    """Takes one task's map to the finer scale, where the fine features have a message for it."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = conv3x3(in_channels, channels, bias=True)
        self.message = _Message(channels)

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:
        """(V, in_channels, h / 2, w / 2) and (V, channels, h, w) -> (V, channels, h, w)."""
        x = self.reduce(F.interpolate(x, size=fine.shape[-2:], mode="bilinear"))
        return x + self.message(fine, x)


def _decoder(channels: int) -> nn.Sequential:
    blocks = [BasicBlock(in_channels=channels, channels=channels) for _ in range(2)]
    return nn.Sequential(*map(kaiming_init, blocks), _initialised_conv_bn_relu(channels, channels))


def _initialised_conv_bn_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return kaiming_init(conv_bn_relu(in_channels, out_channels, bias=True))
