"""What a model believes of a sample, to be drawn. Plain data.

Letters: (h, w) map of the depth network, (Y, X) BEV grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fsdbev.structures import BEVGrid, LabelledBoxes

from .views import CameraView


@dataclass(frozen=True)
class CameraBelief:
    """What a model believes of one camera's picture. The maps cover the whole picture.

    Attributes:
        view: the network image, with its augmentation in the calibration.
        depth: (h, w) most likely depth, metres.
        foreground: (h, w) probability of foreground; None where the model does not tell.
        attention: (h, w) share of each pixel that is lifted to where the model finds boxes.
    """

    view: CameraView
    depth: np.ndarray
    foreground: np.ndarray | None
    attention: np.ndarray


@dataclass(frozen=True)
class Beliefs:
    """What a model believes of a sample. Boxes are in the BEV frame of the grid.

    Attributes:
        title: which sample it is.
        cameras: of the key frame.
        grid: of the maps from above.
        depth_range: metres that depths lie between.
        detections: what it finds.
        truth: true boxes, where known.
        student_bev: (Y, X) how much a cell's BEV features, after the encoder, differ from the
            usual ones.
        teacher_bev: the same of the teacher that sees depth and foreground labels; None where there
            is none.
        heatmap: (Y, X) probability of an object's centre, of the likeliest class.
    """

    title: str
    cameras: list[CameraBelief]
    grid: BEVGrid
    depth_range: tuple[float, float]
    detections: LabelledBoxes
    truth: LabelledBoxes | None
    student_bev: np.ndarray
    teacher_bev: np.ndarray | None
    heatmap: np.ndarray
