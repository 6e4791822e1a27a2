"""Data classes that pictures are made of: camera views, training targets and model outputs.

Shapes: P labelled points, C classes, K 2D boxes, (H, W) image, (h, w) map of an image, (Y, X) BEV
grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fsdbev.structures import BEVGrid, Columns, LabelledBoxes, transform_points

from .projection import unproject


@dataclass(frozen=True)
class CameraView:
    """Image and calibration of one camera.

    Attributes:
        name: name of the camera, drawn in the corner of the image.
        image: (H, W, 3) uint8 RGB.
        cam2keyego: (4, 4) camera to key ego, metres.
        intrinsics: (3, 3) takes a camera point to (u d, v d, d) of this image: u, v in pixels and d
            the depth of labels on this image, which includes the depth scale of an augmentation.

    Raises:
        ValueError: the image has another shape.
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
        """Width of the image divided by its height."""
        return self.image.shape[1] / self.image.shape[0]


@dataclass(frozen=True)
class LabelPoints(Columns):
    """Labelled points of one image.

    Attributes:
        uv: (P, 2) pixels.
        depth: (P,) metres, multiplied by the depth scale of an augmented image.
        class_ids: (P,) class indices, -1 for background.
        groups: (P,) indices into ``GROUPS``, the groups of ``PointLabels``.
    """

    uv: np.ndarray
    depth: np.ndarray
    class_ids: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class TargetView:
    """Training targets of one camera.

    Attributes:
        camera: the image, and its calibration including all augmentation.
        points: depth and foreground labels.
        heatmap: (C, h, w) values from 0 to 1; a cell covers 4 x 4 pixels of the image.
        outlines: (K, 4, 2) corners of the 2D boxes in pixels, in order around each box.
        outline_labels: (K,) class indices of the 2D boxes.
        source: (4, 2) corners of the original image in pixels, in order around the image.
    """

    camera: CameraView
    points: LabelPoints
    heatmap: np.ndarray
    outlines: np.ndarray
    outline_labels: np.ndarray
    source: np.ndarray

    def points_in_keyego(self) -> np.ndarray:
        """Computes the (P, 3) positions of the labelled points in key ego, metres."""
        intrinsics = self.camera.intrinsics.double().numpy()
        in_camera = unproject(self.points.uv, self.points.depth, intrinsics)
        cam2keyego = self.camera.cam2keyego.double()
        return transform_points(torch.from_numpy(in_camera), cam2keyego).numpy()


@dataclass(frozen=True)
class TrainingSample:
    """Training targets of one sample.

    Attributes:
        title: scene, token and time of the sample.
        views: targets of each camera.
        boxes: boxes of the objects to detect, in key ego after the BEV augmentation.
        boxes_without_points: boxes of the objects without LiDAR and radar points, in the same
            frame. They are no detection targets, but may have pseudo points.
        class_names: names that labels of boxes and points index.
        grid: the BEV grid of the network.
        depth_range: least and largest depth of the network's depth bins, metres.
    """

    title: str
    views: list[TargetView]
    boxes: LabelledBoxes
    boxes_without_points: LabelledBoxes
    class_names: tuple[str, ...]
    grid: BEVGrid
    depth_range: tuple[float, float]


@dataclass(frozen=True)
class CameraDiagnostics:
    """Intermediate outputs of a model for one camera. Each map covers the whole image.

    Attributes:
        view: the network image, and its calibration including the augmentation.
        depth: (h, w) most likely depth, metres.
        foreground: (h, w) foreground probability; None for a model without a foreground branch.
        attention: (h, w) fraction of each pixel's depth weights that is splat under detected boxes.
    """

    view: CameraView
    depth: np.ndarray
    foreground: np.ndarray | None
    attention: np.ndarray


@dataclass(frozen=True)
class Diagnostics:
    """Detections and intermediate outputs of a model for one sample. Boxes are in the grid's frame.

    Attributes:
        title: scene, token and time of the sample.
        cameras: outputs for each camera of the key frame.
        grid: BEV grid of the maps below.
        depth_range: least and largest depth of the depth bins, metres.
        class_names: names that labels of boxes index.
        detections: detected boxes.
        truth: ground-truth boxes; None where they are unknown.
        student_bev: (Y, X) distance of each cell's features from the median features, after the
            BEV encoder.
        teacher_bev: (Y, X) the same for the teacher, whose pooling uses depth and foreground
            labels; None where there is no teacher.
        heatmap: (Y, X) largest center probability over all classes.
    """

    title: str
    cameras: list[CameraDiagnostics]
    grid: BEVGrid
    depth_range: tuple[float, float]
    class_names: tuple[str, ...]
    detections: LabelledBoxes
    truth: LabelledBoxes | None
    student_bev: np.ndarray
    teacher_bev: np.ndarray | None
    heatmap: np.ndarray
