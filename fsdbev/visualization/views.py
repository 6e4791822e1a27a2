"""What the pictures are made of: camera views and training targets. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fsdbev.structures import BEVGrid, Columns, LabelledBoxes, transform_points

from .projection import unproject


@dataclass(frozen=True)
class CameraView:
    """One camera's picture and calibration.

    Attributes:
        name: shown in the picture's corner.
        image: (H, W, 3) uint8 RGB.
        cam2keyego: (4, 4) camera to key ego, metres.
        intrinsics: (3, 3) camera point to (u d, v d, d) of this image: pixels, and d the depth that
            labels on this image have.
    """

    name: str
    image: np.ndarray
    cam2keyego: Tensor
    intrinsics: Tensor

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"{self.name}: image must be (H, W, 3), got {self.image.shape}")

    @property
    def aspect(self) -> float:
        """Width of the image over its height."""
        return self.image.shape[1] / self.image.shape[0]


@dataclass(frozen=True)
class LabelPoints(Columns):
    """P labelled points of an image.

    Attributes:
        uv: (P, 2) pixels.
        depth: (P,) metres; times the image's depth scale where that is augmented.
        class_ids: (P,) class indices, -1 for background.
        groups: (P,) which group of ``PointLabels`` they are of.
    """

    uv: np.ndarray
    depth: np.ndarray
    class_ids: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class TargetView:
    """What a network is trained with in one camera.

    Attributes:
        camera: the picture, and its calibration with all augmentation in it.
        points: depth and foreground labels.
        heatmap: (C, h, w) values 0 .. 1, which cover the image's ``4 h`` x ``4 w`` pixels.
        outlines: (K, 4, 2) corners of the 2D boxes, pixels, in order around them.
        outline_labels: (K,) their class indices.
        source: (4, 2) corners of the original image, pixels, in order around it.
    """

    camera: CameraView
    points: LabelPoints
    heatmap: np.ndarray
    outlines: np.ndarray
    outline_labels: np.ndarray
    source: np.ndarray

    def points_in_keyego(self) -> np.ndarray:
        """(P, 3) where the labels are, metres."""
        intrinsics = self.camera.intrinsics.double().numpy()
        in_camera = unproject(self.points.uv, self.points.depth, intrinsics)
        cam2keyego = self.camera.cam2keyego.double()
        return transform_points(torch.from_numpy(in_camera), cam2keyego).numpy()


@dataclass(frozen=True)
class TrainingSample:
    """What a network is trained with in one sample.

    Attributes:
        title: which sample it is.
        views: one a camera.
        boxes: of the objects that it is to find, key ego with the BEV augmentation.
        pointless: of the objects that neither LiDAR nor radar hit, which it is not to find, but
            which may have pseudo points.
        grid: where the network looks for boxes.
    """

    title: str
    views: list[TargetView]
    boxes: LabelledBoxes
    pointless: LabelledBoxes
    grid: BEVGrid


@dataclass(frozen=True)
class CameraDiagnostics:
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
class Diagnostics:
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
    cameras: list[CameraDiagnostics]
    grid: BEVGrid
    depth_range: tuple[float, float]
    detections: LabelledBoxes
    truth: LabelledBoxes | None
    student_bev: np.ndarray
    teacher_bev: np.ndarray | None
    heatmap: np.ndarray
