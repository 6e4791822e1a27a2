"""Records of the frame index: one sample and its annotations as plain numpy data.

Shapes: N cameras, M annotations.

``cam2ego`` maps camera points (x right, y down, z forward) to the ego frame (x forward, y left, z
up) at that camera's time (docs/model.md, "Frames of reference"). Units are metres, rad, m/s,
microseconds and pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from fsdbev.structures import Lens, box_corners, transform_points

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
#: Fields of a frame that are arrays with one entry per camera.
CAMERA_NUMBERS = (
    "image_sizes",
    "image_crcs",
    "camera_timestamps",
    "intrinsics",
    "cam2ego",
    "ego2global",
)
#: Checksum of an image whose checksum is unknown.
UNKNOWN_CRC = -1


@dataclass(frozen=True)
class Lidar:
    """A LiDAR sweep: its file and calibration.

    Attributes:
        path: file of the points, relative to the data root: five float32 per point (x, y, z,
            intensity, ring), LiDAR frame.
        timestamp: time of the sweep, microseconds.
        lidar2ego, ego2global: (4, 4) float64 poses at the time of the sweep.
        lidarseg_path: file of the nuScenes-lidarseg labels, relative to the data root: one uint8
            category index per point. None without lidarseg.
    """

    path: str
    timestamp: int
    lidar2ego: Float64
    ego2global: Float64
    lidarseg_path: str | None = None


@dataclass(frozen=True)
class Annotations:
    """Objects of the detection classes in one sample, in the sample's key ego frame.

    Attributes:
        tokens: M annotation tokens.
        instance_tokens: M tokens of the objects, the same in all samples of a scene.
        attributes: M attribute names, "" for an object without an attribute.
        class_ids: (M,) int8, class id: position in the names of the index's classes.
        visibility: (M,) int8, 1 (below 40 % visible) to 4 (80 % or more), 0 unknown.
        num_lidar_points, num_radar_points: (M,) int32 number of points in the box.
        center: (M, 3) float32 centre of gravity, metres.
        size: (M, 3) float32 length (along the heading), width, height, metres.
        rotation: (M, 3, 3) float32, box axes -> key ego. It is close to a rotation about z; the
            rest is the vehicle's pitch and roll, kept because it moves corners by pixels.
        velocity: (M, 2) float32 along x and y, m/s; 0 if unknown.

    Raises:
        ValueError: the fields differ in length.
    """

    tokens: tuple[str, ...]
    instance_tokens: tuple[str, ...]
    attributes: tuple[str, ...]
    class_ids: NDArray[np.int8]
    visibility: NDArray[np.int8]
    num_lidar_points: NDArray[np.int32]
    num_radar_points: NDArray[np.int32]
    center: Float32
    size: Float32
    rotation: Float32
    velocity: Float32

    def __post_init__(self) -> None:
        sizes = {f.name: len(getattr(self, f.name)) for f in fields(self)}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"every field of Annotations needs one entry per object, got {sizes}")

    def __len__(self) -> int:
        return len(self.class_ids)

    @property
    def boxes(self) -> Float32:
        """(M, 9) x, y, z, l, w, h, yaw, vx, vy, key ego; yaw is the angle of the box's x axis."""
        yaw = np.arctan2(self.rotation[:, 1, 0], self.rotation[:, 0, 0])
        columns = (self.center, self.size, yaw[:, None], self.velocity)
        return np.concatenate(columns, axis=1, dtype=np.float32)

    @property
    def has_points(self) -> NDArray[np.bool_]:
        """(M,) objects with LiDAR or radar points; training and evaluation use only these."""
        return (self.num_lidar_points + self.num_radar_points) > 0

    def corners(self) -> Float32:
        """Returns (M, 8, 3) corners in key ego, ordered as by ``fsdbev.structures.box_corners``."""
        return box_corners(self.center, self.size, self.rotation)

    def select(self, mask: NDArray[np.bool_]) -> Annotations:
        """Returns the objects where the (M,) mask is true, in order."""
        keep = np.flatnonzero(mask)

        def pick(value: tuple | NDArray) -> tuple | NDArray:
            return tuple(value[i] for i in keep) if isinstance(value, tuple) else value[keep]

        return Annotations(**{f.name: pick(getattr(self, f.name)) for f in fields(self)})

    @classmethod
    def empty(cls) -> Annotations:
        """Returns annotations without objects, as in a test set."""
        return cls.from_boxes(np.zeros((0, 9), np.float32), np.zeros(0, np.int8))

    @classmethod
    def from_boxes(cls, boxes: NDArray, class_ids: NDArray, **known) -> Annotations:
        """Returns objects whose boxes are rotated about the z axis of key ego only.

        Args:
            boxes: (M, 9) x, y, z, l, w, h, yaw, vx, vy, key ego.
            class_ids: (M,) class ids.
            known: values of further fields. By default names are empty, visibility is unknown and
                every object has one LiDAR point.
        """
        boxes = np.asarray(boxes, np.float32).reshape(-1, 9)
        count, (cos, sin) = len(boxes), (np.cos(boxes[:, 6]), np.sin(boxes[:, 6]))
        rotation = np.zeros((count, 3, 3), np.float32)
        rotation[:, 0, 0], rotation[:, 0, 1], rotation[:, 1, 0] = cos, -sin, sin
        rotation[:, 1, 1], rotation[:, 2, 2] = cos, 1
        values = {
            "tokens": ("",) * count,
            "instance_tokens": ("",) * count,
            "attributes": ("",) * count,
            "visibility": np.zeros(count, np.int8),
            # One point, because training and evaluation skip objects without points.
            "num_lidar_points": np.ones(count, np.int32),
            "num_radar_points": np.zeros(count, np.int32),
            "center": boxes[:, 0:3],
            "size": boxes[:, 3:6],
            "rotation": rotation,
            "velocity": boxes[:, 7:9],
        }
        return cls(class_ids=np.asarray(class_ids, np.int8), **{**values, **known})


@dataclass(frozen=True)
class Frame:
    """One sample: the images of all cameras of a rig at about the same time.

    Attributes:
        sample_token: unique name of the sample; it names files, so that it must be a plain name.
        scene_token, scene_name: identity of the scene.
        timestamp: time of the sample, microseconds.
        previous, next: rows of the neighbouring samples in the same scene, which have the same
            cameras and image sizes; -1 for none.
        channels: N camera names.
        image_paths: N image files, relative to the data root.
        image_sizes: (N, 2) int32 width, height of the image files, which rectified images keep,
            pixels.
        camera_timestamps: (N,) int64 time of each image, microseconds.
        intrinsics: (N, 3, 3) float64, of the rectified images, pixels.
        cam2ego, ego2global: (N, 4, 4) float64 poses at each camera's time.
        reference_camera: index of the camera whose ego frame is this sample's key ego frame.
        lidar: the LiDAR sweep of this sample, or None.
        lenses: N lenses of the image files, None for an image without distortion; empty if no
            camera has one. ``FrameDataset.image`` rectifies the images.
        reference_pose: (4, 4) key ego -> global of a frame without its reference camera, which
            :meth:`select` left out; ``reference_camera`` is then -1.
        image_crcs: (N,) int64 CRC-32 of the image files, which ``FrameDataset.image`` checks;
            ``UNKNOWN_CRC`` where unknown, the default.
    """

    sample_token: str
    scene_token: str
    scene_name: str
    timestamp: int
    previous: int
    next: int
    channels: tuple[str, ...]
    image_paths: tuple[str, ...]
    image_sizes: NDArray[np.int32]
    camera_timestamps: NDArray[np.int64]
    intrinsics: Float64
    cam2ego: Float64
    ego2global: Float64
    reference_camera: int
    lidar: Lidar | None = None
    lenses: tuple[Lens | None, ...] = ()
    reference_pose: Float64 | None = None
    image_crcs: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.image_crcs is None:
            object.__setattr__(self, "image_crcs", np.full(self.num_cameras, UNKNOWN_CRC))

    @property
    def num_cameras(self) -> int:
        """N."""
        return len(self.channels)

    @property
    def key_ego2global(self) -> Float64:
        """(4, 4) key ego -> global; this sample's annotations are in key ego."""
        if self.reference_pose is not None:
            return self.reference_pose
        return self.ego2global[self.reference_camera]

    @property
    def global2cam(self) -> Float64:
        """(N, 4, 4) global -> camera, at each camera's time."""
        return np.linalg.inv(self.ego2global @ self.cam2ego)

    def select(self, channels: Sequence[str]) -> Frame:
        """Returns the frame with part of its cameras, in the order of ``channels``.

        The key ego frame, and so the annotations, stay those of the reference camera.

        Raises:
            ValueError: the frame lacks a camera.
        """
        missing = [name for name in channels if name not in self.channels]
        if missing:
            raise ValueError(
                f"sample {self.sample_token} has no camera {missing[0]!r}; its cameras are "
                f"{', '.join(self.channels)}"
            )
        chosen = [self.channels.index(name) for name in channels]
        kept = self.reference_camera in chosen
        return replace(
            self,
            channels=tuple(channels),
            image_paths=tuple(self.image_paths[i] for i in chosen),
            lenses=tuple(self.lenses[i] for i in chosen) if self.lenses else (),
            reference_camera=chosen.index(self.reference_camera) if kept else -1,
            reference_pose=None if kept else self.key_ego2global,
            **{name: getattr(self, name)[chosen] for name in CAMERA_NUMBERS},
        )

    def corners_in_cameras(self, annotations: Annotations) -> Float64:
        """Returns (N, M, 8, 3) float64 corners of the objects in each camera's frame, metres."""
        # float64, because the way from key ego to a camera leads through the global frame.
        corners = annotations.corners().astype(np.float64)
        keyego2cam = self.global2cam @ self.key_ego2global
        return transform_points(corners, keyego2cam[:, None])


def rig_text(channels: Sequence[str], image_sizes: NDArray[np.int32]) -> str:
    """Formats names and image sizes of cameras, which all frames of a sample share."""
    pairs = zip(channels, image_sizes.tolist(), strict=True)
    return ", ".join(f"{name} {width} x {height}" for name, (width, height) in pairs)
