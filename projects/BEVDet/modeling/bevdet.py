"""BEVDet (arXiv:2112.11790) and BEVDet4D (arXiv:2203.17054)."""

from __future__ import annotations

from typing import Any

from fsdbev.modeling import META_ARCH_REGISTRY, LiftSplatDetector


@META_ARCH_REGISTRY.register()
class BEVDet(LiftSplatDetector):
    """Single-frame detector without depth supervision.

    BEVDet's additions to Lift, Splat, Shoot are outside this class: BEV augmentation in the data
    loader and Scale-NMS in the tasks of the head.

    Args:
        parts: arguments of ``LiftSplatDetector``.

    Raises:
        ValueError: ``num_frames`` is not 1.
    """

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._check_frames()

    def _check_frames(self) -> None:
        if self.num_frames != 1:
            raise ValueError(
                f"BEVDet takes one frame, got num_frames={self.num_frames}; use BEVDet4D for more"
            )


@META_ARCH_REGISTRY.register()
class BEVDet4D(BEVDet):
    """BEVDet with earlier frames.

    Each frame is splat into the key frame's ego grid, which removes ego-motion. All frames pass the
    same residual stage and are concatenated. Earlier frames run without gradient.

    Args:
        parts: arguments of ``LiftSplatDetector``.

    Raises:
        ValueError: ``num_frames`` is 1, or ``temporal_stage`` is None.
    """

    def _check_frames(self) -> None:
        if self.num_frames < 2 or self.temporal_stage is None:
            stage = "no " if self.temporal_stage is None else "a "
            raise ValueError(
                "BEVDet4D takes two frames or more and a temporal_stage, got "
                f"num_frames={self.num_frames} and {stage}temporal_stage; use BEVDet for one frame"
            )
