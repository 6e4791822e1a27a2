"""Lift, Splat, Shoot (ECCV 2020, arXiv:2008.05711) with a detection head."""

from __future__ import annotations

from typing import Any

from fsdbev.modeling import META_ARCH_REGISTRY, LiftSplatDetector, PixelDepthNet


@META_ARCH_REGISTRY.register()
class LSS(LiftSplatDetector):
    """Single-frame detector with a depth softmax per pixel and without depth supervision.

    Args:
        parts: arguments of ``LiftSplatDetector``.

    Raises:
        ValueError: ``num_frames`` is not 1, or the depth network is not a ``PixelDepthNet``.
    """

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        if self.num_frames != 1:
            raise ValueError(
                f"LSS takes one frame, got num_frames={self.num_frames}; use BEVDet4D for more"
            )
        if not isinstance(self.depth_net, PixelDepthNet):
            raise ValueError(
                f"LSS takes a PixelDepthNet, got a {type(self.depth_net).__name__}; use BEVDepth "
                "for a camera-aware depth network"
            )
