"""Lift, Splat, Shoot (ECCV 2020, arXiv 2008.05711), detecting instead of segmenting."""

from __future__ import annotations

from typing import Any

from fsdbev.modeling import META_ARCH_REGISTRY, LiftSplatDetector, PixelDepthNet


@META_ARCH_REGISTRY.register()
class LSS(LiftSplatDetector):
    """One frame, depth by each pixel's own softmax, learnt from detection alone.

    Args:
        parts: those of ``LiftSplatDetector``.

    Raises:
        ValueError: the parts make another model: several frames, or a depth network that knows the
            camera.
    """

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        if self.num_frames != 1:
            raise ValueError(
                f"LSS sees one frame, got num_frames={self.num_frames}; BEVDet4D sees more"
            )
        if not isinstance(self.depth_net, PixelDepthNet):
            raise ValueError(
                f"LSS takes a PixelDepthNet, got a {type(self.depth_net).__name__}; BEVDepth has a "
                "depth network that knows the camera"
            )
