"""BEVDet (arXiv 2112.11790) and BEVDet4D (arXiv 2203.17054)."""

from __future__ import annotations

from typing import Any

from fsdbev.modeling import META_ARCH_REGISTRY, LiftSplatDetector


@META_ARCH_REGISTRY.register()
class BEVDet(LiftSplatDetector):
    """One frame; depth is learnt from detection alone. What BEVDet adds to Lift, Splat, Shoot is
    around the model: BEV augmentation in the loader, Scale-NMS in the head's tasks.

    Args:
        parts: those of ``LiftSplatDetector``.

    Raises:
        ValueError: ``num_frames`` is not 1.
    """

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._check_frames()

    def _check_frames(self) -> None:
        if self.num_frames != 1:
            raise ValueError(
                f"BEVDet sees one frame, got num_frames={self.num_frames}; BEVDet4D sees more"
            )


@META_ARCH_REGISTRY.register()
class BEVDet4D(BEVDet):
    """BEVDet with earlier frames: each is splat into the key frame's ego grid, which takes the
    ego-motion out, passes a residual stage of its own, and is concatenated. Earlier frames run
    without gradient.

    Raises:
        ValueError: there is one frame, or no ``temporal_stage``.
    """

    def _check_frames(self) -> None:
        if self.num_frames < 2 or self.temporal_stage is None:
            stage = "no " if self.temporal_stage is None else "a "
            raise ValueError(
                "BEVDet4D takes two frames or more and a temporal_stage, got "
                f"num_frames={self.num_frames} and {stage}temporal_stage; BEVDet sees one frame"
            )
