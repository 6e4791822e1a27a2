"""Cameras: calibration of a batch and the transforms composed from it.

Shapes: B samples, T frames (0 is the key frame), N cameras of a sample, V views: the cameras of all
samples, one sample after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .rigid_transforms import MAX_COORDINATE, invert, make_transform

#: Rotation camera -> ego of a forward-facing camera; columns: the camera's right, down, forward.
CAMERA_AXES = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
#: Camera of the key ego pose where a sample does not state it: CAM_FRONT in nuScenes' order.
DEFAULT_REFERENCE_CAMERA = 1

#: Requirement that :func:`is_intrinsics` checks, for error messages.
INTRINSICS_RULE = "intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy"


def is_intrinsics(matrices: Tensor) -> Tensor:
    """Checks for intrinsics of pinhole cameras: positive focal lengths, last row 0 0 1, and finite
    entries within ``MAX_COORDINATE`` pixels.

    Args:
        matrices: (..., 3, 3).

    Returns:
        (...) bool.
    """
    # A NaN fails this comparison, too.
    in_range = (matrices.abs() <= MAX_COORDINATE).all(dim=-1).all(dim=-1)
    positive = (matrices.diagonal(dim1=-2, dim2=-1) > 0).all(dim=-1)
    last_row = (matrices[..., 2, :] == matrices.new_tensor([0.0, 0.0, 1.0])).all(dim=-1)
    return in_range & positive & last_row


def reference_camera(sample: dict) -> int:
    """Returns the index of the camera whose key-frame ego pose is the key ego frame
    (docs/model.md, "Frames of reference").

    It is ``sample["reference_camera"]`` if present, otherwise the second camera,
    CAM_FRONT in nuScenes' order, or the only one.

    Raises:
        ValueError: the index is not a camera of the sample.
    """
    num_cameras = sample["ego2global"].shape[-3]
    index = int(sample.get("reference_camera", min(DEFAULT_REFERENCE_CAMERA, num_cameras - 1)))
    if not 0 <= index < num_cameras:
        raise ValueError(f"reference_camera is {index}, but the rig has {num_cameras} cameras")
    return index


def key_ego2global(sample: dict) -> Tensor:
    """Returns the (4, 4) float64 transform key ego -> global of a sample dict.

    It is ``sample["key_ego2global"]`` if present, otherwise the pose of the reference camera. A
    sample with part of the cameras needs the entry: its reference camera may not be among them.
    """
    if "key_ego2global" in sample:
        return torch.as_tensor(sample["key_ego2global"]).double()
    return torch.as_tensor(sample["ego2global"])[0, reference_camera(sample)].double()


@dataclass(frozen=True)
class Cameras:
    """Calibration of a batch, whose samples may have different numbers of cameras. All matrices act
    on column vectors.

    Attributes:
        cam2keyego: (T, V, 4, 4) float64, camera -> key ego of its sample, metres.
        intrinsics: (T, V, 3, 3) float64, of the original image, pixels.
        image_aug: (V, 4, 4) float64 affine on (u, v, depth), original image -> network image.
        bev_aug: (B, 4, 4) float64 affine on key ego points, metres.
        sample: (V,) int64, sample of each view, 0 .. B - 1.
    """

    cam2keyego: Tensor
    intrinsics: Tensor
    image_aug: Tensor
    bev_aug: Tensor
    sample: Tensor

    def __post_init__(self) -> None:
        # float64: poses are differences of global coordinates of thousands of metres, and rounding
        # moves frustum points across the borders of BEV cells.
        for name in ("cam2keyego", "intrinsics", "image_aug", "bev_aug"):
            object.__setattr__(self, name, getattr(self, name).double())

    @classmethod
    def from_samples(cls, samples: Sequence[dict], device: torch.device | str = "cpu") -> Cameras:
        """Collects the calibration of sample dicts and composes
        ``cam2keyego = inv(key_ego2global) @ ego2global @ cam2ego`` in float64
        (docs/model.md, "Frames of reference").

        Args:
            samples: B dicts with ``cam2ego``, ``ego2global``, ``intrinsics``, ``image_aug`` and
                ``bev_aug`` (docs/model.md, "Inputs and outputs").
            device: device of the result.
        """

        def tensors(key: str) -> list[Tensor]:
            return [torch.as_tensor(sample[key]) for sample in samples]

        counts = torch.tensor([len(image_aug) for image_aug in tensors("image_aug")])
        owner = torch.arange(len(samples)).repeat_interleave(counts)
        global2keyego = invert(torch.stack([key_ego2global(sample) for sample in samples]))
        cam2global = (
            torch.cat(tensors("ego2global"), dim=1).double()
            @ torch.cat(tensors("cam2ego"), dim=1).double()
        )
        parts = (
            global2keyego[owner] @ cam2global,
            torch.cat(tensors("intrinsics"), dim=1),
            torch.cat(tensors("image_aug")),
            torch.stack(tensors("bev_aug")),
            owner,
        )
        return cls(*(part.to(device, non_blocking=True) for part in parts))

    @property
    def num_samples(self) -> int:
        """B."""
        return self.bev_aug.shape[0]

    @property
    def num_views(self) -> int:
        """V."""
        return self.image_aug.shape[0]

    def undo_image_aug(self) -> Tensor:
        """Returns the (V, 4, 4) affine network image -> original image on (u, v, depth)."""
        return invert(self.image_aug)

    def image2bev(self, frame: int) -> Tensor:
        """Returns the (V, 4, 4) transform of ``(u * depth, v * depth, depth)`` in the original
        image to key ego after ``bev_aug``, metres: ``bev_aug @ cam2keyego @ inv(intrinsics)``
        (docs/model.md, "View transform").

        Args:
            frame: index of the frame.
        """
        image2cam = make_transform(torch.linalg.inv(self.intrinsics[frame]))
        return self.bev_aug[self.sample] @ self.cam2keyego[frame] @ image2cam

    def camera_vector(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Returns the (V, 27) camera vector of the depth network.

        fx, fy, cx, cy; a00, a01, tu, a10, a11, tv of image_aug; m00, m01, m10, m11, m22 of bev_aug;
        rows 0..2 of cam2keyego (BEVDepth, arXiv:2206.10092, camera-aware depth prediction;
        docs/model.md, "Depth network").

        Args:
            dtype: type of the result, that of the depth network's weights.
        """
        # Frame 0 only: the depth network gets the key frame's calibration for every frame.
        k, a, m = self.intrinsics[0], self.image_aug, self.bev_aug[self.sample]
        intrinsics = (k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2])
        image_aug = tuple(a[..., i, j] for i, j in ((0, 0), (0, 1), (0, 3), (1, 0), (1, 1), (1, 3)))
        bev_aug = tuple(m[..., i, j] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 2)))
        pose = self.cam2keyego[0, :, :3, :].flatten(-2)
        numbers = torch.stack(intrinsics + image_aug + bev_aug, dim=-1)
        return torch.cat([numbers, pose], dim=-1).to(dtype)
