"""Rig: the cameras of a vehicle and their calibration.

Shapes: N cameras.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .cameras import INTRINSICS_RULE, is_intrinsics
from .lens import Lens
from .rigid_transforms import is_rigid

#: Largest width and height of an image, pixels.
MAX_IMAGE_SIDE = 1 << 16


@dataclass(frozen=True)
class Rig:
    """Calibration of the cameras of one vehicle.

    Attributes:
        channels: N camera names.
        image_sizes: N (width, height) of the images, pixels.
        intrinsics: (N, 3, 3) float64, of rectified images of these sizes, pixels.
        cam2ego: (N, 4, 4) float64, camera (x right, y down, z forward) -> ego (x forward, y left, z
            up), metres.
        reference_camera: index of the camera whose time stamp defines the ego frame of the boxes.
        lenses: lens of each camera whose images are to be rectified, None for rectified images;
            empty if all are.

    Raises:
        ValueError: the lengths or shapes do not match, names are repeated, an image size is out of
            range, or a matrix is not a valid calibration.
    """

    channels: tuple[str, ...]
    image_sizes: tuple[tuple[int, int], ...]
    intrinsics: Tensor
    cam2ego: Tensor
    reference_camera: int = 0
    lenses: tuple[Lens | None, ...] = ()

    def __post_init__(self) -> None:
        # The dataclass is frozen, so its own __setattr__ raises an error.
        for name in ("intrinsics", "cam2ego"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name)).double())
        count = len(self.channels)
        if count == 0 or len(set(self.channels)) < count:
            raise ValueError(
                f"a rig needs at least one camera, each with its own name: {self.channels}"
            )
        shapes = len(self.image_sizes), tuple(self.intrinsics.shape), tuple(self.cam2ego.shape)
        if shapes != (count, (count, 3, 3), (count, 4, 4)):
            raise ValueError(
                f"{count} cameras need {count} image_sizes, ({count}, 3, 3) intrinsics and "
                f"({count}, 4, 4) cam2ego; got {shapes}"
            )
        if len(self.lenses) not in (0, count):
            raise ValueError(f"{count} cameras need {count} lenses or none, got {len(self.lenses)}")
        if not 0 <= self.reference_camera < count:
            raise ValueError(
                f"reference_camera is {self.reference_camera}, but the rig has {count} cameras"
            )
        for camera in range(count):
            self._check(camera)

    def _check(self, camera: int) -> None:
        """Checks image size and matrices of one camera.

        Raises:
            ValueError: a value is invalid; the message names the camera.
        """
        where = f"camera {self.channels[camera]!r}"
        width, height = self.image_sizes[camera]
        if not (1 <= width <= MAX_IMAGE_SIDE and 1 <= height <= MAX_IMAGE_SIDE):
            raise ValueError(
                f"{where}: its images have {width} x {height} pixels; a side has 1 to "
                f"{MAX_IMAGE_SIDE}"
            )
        if not is_intrinsics(self.intrinsics[camera]):
            raise ValueError(f"{where}: {INTRINSICS_RULE}, got {self.intrinsics[camera].tolist()}")
        if not is_rigid(self.cam2ego[camera]):
            raise ValueError(
                f"{where}: cam2ego must be a rotation and a translation, got "
                f"{self.cam2ego[camera].tolist()}"
            )

    @property
    def num_cameras(self) -> int:
        return len(self.channels)

    def lens(self, camera: int) -> Lens | None:
        """Returns the lens of a camera, None if its images are rectified."""
        return self.lenses[camera] if self.lenses else None
