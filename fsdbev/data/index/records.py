"""One sample of a data set as plain numpy data: what a row of the frame index holds.

Shapes: N cameras, M annotations. Frames of reference by name: ``cam2ego`` takes camera points (x
right, y down, z forward) to the ego vehicle (x forward, y left, z up) at that camera's own time.
Metres, rad, m/s, microseconds, pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fsdbev.structures import box_corners, transform_points

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Lidar:
    """A LiDAR sweep: file, calibration, and point labels if the data set has them.

    Attributes:
        path: relative to the data root; float32 records of five (x, y, z, intensity, ring).
        timestamp: microseconds.
        lidar2ego, ego2global: (4, 4) at the sweep's own time.
        lidarseg_path: uint8 category index a point, relative to the data root, or None.
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
        tokens, instance_tokens: M identities, of the annotation and of the object over time.
        attributes: M attribute names, "" where there is none.
        class_ids: (M,) int8, index into CLASS_NAMES.
        visibility: (M,) int8, 1 (below 40 % visible) to 4 (80 % or more), 0 unknown.
        num_lidar_points, num_radar_points: (M,) int32.
        center: (M, 3) centre of gravity.
        size: (M, 3) length (along the heading), width, height.
        rotation: (M, 3, 3) box axes -> key ego. Nearly a rotation about z; the rest is the
            vehicle's pitch and roll, kept because it moves corners by pixels.
        velocity: (M, 2) along x and y, 0 where unknown.
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
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"every field of Annotations needs one entry an object, got {lengths}")

    def __len__(self) -> int:
        return len(self.class_ids)

    @property
    def boxes(self) -> Float32:
        """(M, 9) x, y, z, l, w, h, yaw, vx, vy: yaw is the direction of the box's x axis."""
        yaw = np.arctan2(self.rotation[:, 1, 0], self.rotation[:, 0, 0])
        columns = (self.center, self.size, yaw[:, None], self.velocity)
        return np.concatenate(columns, axis=1, dtype=np.float32)

    @property
    def has_points(self) -> NDArray[np.bool_]:
        """(M,) seen by LiDAR or radar at least once: what is trained on and evaluated."""
        return (self.num_lidar_points + self.num_radar_points) > 0

    def corners(self) -> Float32:
        """(M, 8, 3) corners, key ego, ordered as by :func:`fsdbev.structures.box_corners`."""
        return box_corners(self.center, self.size, self.rotation)

    def select(self, mask: NDArray[np.bool_]) -> Annotations:
        """The objects where the (M,) mask is true, in order."""
        keep = np.flatnonzero(mask)

        def pick(value: tuple | NDArray) -> tuple | NDArray:
            return tuple(value[i] for i in keep) if isinstance(value, tuple) else value[keep]

        return Annotations(**{f.name: pick(getattr(self, f.name)) for f in fields(self)})

    @classmethod
    def empty(cls) -> Annotations:
        """No objects, as in a test set."""
        return cls.from_boxes(np.zeros((0, 9), np.float32), np.zeros(0, np.int8))

    @classmethod
    def from_boxes(cls, boxes: NDArray, class_ids: NDArray, **known) -> Annotations:
        """Objects that stand upright in key ego, from (M, 9) boxes; ``known`` sets other fields.

        What is not given: empty names, visibility unknown, one LiDAR point.
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
    """One sample: all cameras of a rig at about one time.

    Attributes:
        sample_token, scene_token, scene_name: identity; the token must be a plain file name.
        timestamp: microseconds.
        previous, next: rows of the neighbours in the same scene, -1 where there is none.
        channels: N camera names.
        image_paths: N files relative to the data root.
        image_sizes: (N, 2) int32 width, height.
        camera_timestamps: (N,) int64.
        intrinsics: (N, 3, 3); cam2ego, ego2global: (N, 4, 4), at each camera's own time.
        reference_camera: index of the camera whose ego pose is this sample's key ego.
        lidar: the sweep of this sample, or None.
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

    @property
    def num_cameras(self) -> int:
        return len(self.channels)

    @property
    def key_ego2global(self) -> Float64:
        """(4, 4) pose of the key ego frame, in which this sample's annotations are."""
        return self.ego2global[self.reference_camera]

    @property
    def global2cam(self) -> Float64:
        """(N, 4, 4) global -> camera, at each camera's own time."""
        return np.linalg.inv(self.ego2global @ self.cam2ego)

    def corners_in_cameras(self, annotations: Annotations) -> Float64:
        """(N, M, 8, 3) corners of this sample's objects in every camera's frame."""
        corners = annotations.corners().astype(np.float64)
        keyego2cam = self.global2cam @ self.key_ego2global
        return transform_points(corners, keyego2cam[:, None])
