"""Cameras: the calibration of a batch and the transforms composed from it.

Shapes: B batch, T frames (0 is the key frame), N cameras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .transforms import MAX_COORDINATE, invert, make_transform

#: Ego axes (columns: camera's right, down, forward) of a camera that looks straight ahead.
CAMERA_AXES = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
#: Which camera carries the key ego pose when a sample does not say: CAM_FRONT of nuScenes.
DEFAULT_REFERENCE_CAMERA = 1

#: What :func:`are_intrinsics` demands, for messages.
INTRINSICS_RULE = "intrinsics must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy"


def are_intrinsics(matrices: Tensor) -> Tensor:
    """(...) which (..., 3, 3) matrices are of a pinhole camera: positive focal lengths, a last row
    of 0 0 1, and nothing infinite, NaN or beyond ``MAX_COORDINATE`` pixels."""
    in_range = (matrices.abs() <= MAX_COORDINATE).all(dim=-1).all(dim=-1)  # nor NaN
    positive = (matrices.diagonal(dim1=-2, dim2=-1) > 0).all(dim=-1)
    last_row = (matrices[..., 2, :] == matrices.new_tensor([0.0, 0.0, 1.0])).all(dim=-1)
    return in_range & positive & last_row


def reference_camera(sample: dict) -> int:
    """Index of the camera whose key-frame ego pose is the key ego frame.

    ``sample["reference_camera"]`` where the data set states it (the mapper always does), else the
    second camera, CAM_FRONT in nuScenes' order, or the only one.
    """
    num_cameras = sample["ego2global"].shape[-3]
    index = int(sample.get("reference_camera", min(DEFAULT_REFERENCE_CAMERA, num_cameras - 1)))
    if not 0 <= index < num_cameras:
        raise ValueError(f"reference_camera is {index}, but the rig has {num_cameras} cameras")
    return index


def key_ego2global(sample: dict) -> Tensor:
    """(4, 4) float64 key ego -> global of one sample dict."""
    return torch.as_tensor(sample["ego2global"])[0, reference_camera(sample)].double()


@dataclass(frozen=True)
class Cameras:
    """Calibration of a batch, float64 so that frustum points fall into the cells they should. All
    matrices take column vectors.

    Attributes:
        cam2keyego: (B, T, N, 4, 4) camera to key ego, metres.
        intrinsics: (B, T, N, 3, 3) of the original image, pixels.
        image_aug: (B, N, 4, 4) affine on (u, v, depth): original image to network image.
        bev_aug: (B, 4, 4) affine on key ego points.
    """

    cam2keyego: Tensor
    intrinsics: Tensor
    image_aug: Tensor
    bev_aug: Tensor

    def __post_init__(self) -> None:
        for name, matrices in vars(self).items():
            object.__setattr__(self, name, matrices.double())

    @classmethod
    def from_samples(cls, samples: Sequence[dict], device: torch.device | str = "cpu") -> Cameras:
        """Composes ``inv(key_ego2global) @ ego2global @ cam2ego``."""

        def stack(key: str) -> Tensor:
            return torch.stack([torch.as_tensor(s[key]) for s in samples])

        global2keyego = invert(torch.stack([key_ego2global(s) for s in samples]))
        cam2global = stack("ego2global").double() @ stack("cam2ego").double()
        cam2keyego = global2keyego[:, None, None] @ cam2global
        parts = (cam2keyego, stack("intrinsics"), stack("image_aug"), stack("bev_aug"))
        return cls(*(p.to(device, non_blocking=True) for p in parts))

    @property
    def num_frames(self) -> int:
        return self.cam2keyego.shape[1]

    @property
    def num_cameras(self) -> int:
        return self.cam2keyego.shape[2]

    def undo_image_aug(self) -> Tensor:
        """(B, N, 4, 4) network image (u, v, depth) -> original image (u, v, depth)."""
        return invert(self.image_aug)

    def image2bev(self, frame: int) -> Tensor:
        """(B, N, 4, 4) ``(u * depth, v * depth, depth)`` of the original image of one frame ->
        augmented key ego, metres: ``bev_aug @ cam2keyego @ inv(intrinsics)``."""
        image2cam = make_transform(torch.linalg.inv(self.intrinsics[:, frame]))
        return self.bev_aug[:, None] @ self.cam2keyego[:, frame] @ image2cam

    def camera_vector(self) -> Tensor:
        """(B, N, 27) float32 input of the camera-aware depth network, the key frame's for every
        frame.

        fx, fy, cx, cy; a00, a01, tu, a10, a11, tv of image_aug; m00, m01, m10, m11, m22 of bev_aug;
        rows 0..2 of cam2keyego (BEVDepth's vector, SPEC section 5).
        """
        k, a, m = self.intrinsics[:, 0], self.image_aug, self.bev_aug[:, None]
        m = m.expand(-1, self.num_cameras, -1, -1)
        intrinsics = (k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2])
        image_aug = tuple(a[..., i, j] for i, j in ((0, 0), (0, 1), (0, 3), (1, 0), (1, 1), (1, 3)))
        bev_aug = tuple(m[..., i, j] for i, j in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 2)))
        pose = self.cam2keyego[:, 0, :, :3, :].flatten(-2)
        numbers = torch.stack(intrinsics + image_aug + bev_aug, dim=-1)
        return torch.cat([numbers, pose], dim=-1).float()
