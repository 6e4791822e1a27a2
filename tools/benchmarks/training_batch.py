"""A made-up batch of training samples: random pixels, sparse depths, boxes around the vehicle."""

from __future__ import annotations

import math
from typing import Any

import torch

from fsdbev.d2.structures import Instances
from fsdbev.structures import CLASS_NAMES, Boxes3D, make_transform, rotation_z

BOXES = 40
#: Share of pixels with a depth, and of those on foreground objects, much as in nuScenes.
WITH_DEPTH, ON_FOREGROUND = 0.02, 0.15
_LOWEST = torch.tensor([-45.0, -45, -1, 0.6, 0.6, 1, -3.1, -3, -3])
_HIGHEST = torch.tensor([45.0, 45, 1, 8, 2.5, 3, 3.1, 3, 3])


def training_batch(
    batch_size: int, *, num_frames: int, num_cameras: int, image_size: tuple[int, int]
) -> list[dict[str, Any]]:
    """Samples as the mapper gives them."""
    generator = torch.Generator().manual_seed(0)
    return [_sample(generator, (num_frames, num_cameras), image_size) for _ in range(batch_size)]


def _sample(
    generator: torch.Generator, rig: tuple[int, int], image_size: tuple[int, int]
) -> dict[str, Any]:
    def rand(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator)

    (num_frames, num_cameras), (height, width) = rig, image_size
    optical = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # camera axes in ego axes
    yaw = 0.01 + torch.arange(num_cameras) * (2 * math.pi / num_cameras)
    ego2global = torch.eye(4).repeat(*rig, 1, 1)
    ego2global[..., 0, 3] = 600 - 2 * torch.arange(num_frames)[:, None]
    focal = 0.8 * width
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    pixels = (*rig, height, width)
    heatmap = rand(num_cameras, len(CLASS_NAMES), height // 4, width // 4)
    instances = Instances(image_size)
    instances.gt_boxes_3d = Boxes3D(_LOWEST + rand(BOXES, 9) * (_HIGHEST - _LOWEST))
    instances.gt_classes = torch.arange(BOXES) % len(CLASS_NAMES)
    return {
        "images": (255 * rand(*rig, 3, height, width)).to(torch.uint8),
        "cam2ego": make_transform(rotation_z(yaw) @ optical, torch.tensor([1.0, 0, 1.5])).expand(
            *rig, 4, 4
        ),
        "ego2global": ego2global,
        "intrinsics": intrinsics.expand(*rig, 3, 3),
        "image_aug": torch.eye(4).repeat(num_cameras, 1, 1),
        "bev_aug": torch.eye(4),
        "gt_depth": torch.where(rand(*pixels) < WITH_DEPTH, 1 + 58 * rand(*pixels), 0.0),
        "gt_foreground": rand(*pixels) < ON_FOREGROUND,
        "gt_heatmap": torch.where(heatmap > 0.999, heatmap, 0.0),
        "instances": instances,
    }
