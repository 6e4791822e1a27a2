"""Samples as the tensors that an exported graph takes.

Letters: B samples, T frames (0 is the key frame), N cameras, (H, W) image size, (h, w) feature map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fsdbev.modeling import FSDBEV
from fsdbev.structures import Cameras, make_transform, rotation_z

from .graph import GraphOptions

#: Columns: right, down and forward of a camera that looks along x.
_CAMERA_AXES = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))


@torch.no_grad()
def graph_inputs(
    model: FSDBEV,
    samples: Sequence[dict],
    options: GraphOptions,
    *,
    score_threshold: float | None = None,
) -> dict[str, Tensor]:
    """Inputs of a graph by their names, in the order of its ``forward``, on the model's device.

    Args:
        model: what the graph was made of.
        samples: B dicts as the model takes them, with the images of all frames.
        options: what the graph takes.
        score_threshold: boxes must score higher; None: the model's own.
    """
    if score_threshold is None:
        score_threshold = model.head.decoder.score_threshold
    cameras = Cameras.from_samples(samples)
    images = model.stack_images(samples)
    inputs = {
        "images": images[:, 0] if options.stream else images,
        "camera_vector": cameras.camera_vector(),
        "score_threshold": torch.tensor(score_threshold, dtype=torch.float32),
    }
    if options.cells:
        inputs["cells"] = frame_cells(model, cameras, images)
    else:
        frames = range(cameras.num_frames)
        inputs["undo_image_aug"] = cameras.undo_image_aug()
        inputs["image2bev"] = torch.stack([cameras.image2bev(t) for t in frames], dim=1)
    if options.stream:
        inputs |= _earlier_frames(model, images)
    return {name: value.to(model.device).contiguous() for name, value in inputs.items()}


def frame_cells(model: FSDBEV, cameras: Cameras, images: Tensor) -> Tensor:
    """(B, T, N, D, h, w) int32 BEV cells of all frustum points. Those of the key frame stay as they
    are while the rig does; those of earlier frames change as the ego moves."""
    one_frame = model.extract_image_features(images[:1, 0])
    feature_size = tuple(one_frame.foreground.shape[-2:])
    cells = [
        model.view_transform.with_cells(splats, feature_size).cells
        for splats in model.place_views(cameras, images.shape[-2:], None)
    ]
    return torch.stack([c.unflatten(0, (len(images), -1)) for c in cells], dim=1)


def _earlier_frames(model: FSDBEV, images: Tensor) -> dict[str, Tensor]:
    frames = [model.extract_image_features(images[:, t]) for t in range(1, images.shape[1])]
    shape = (len(images), -1)
    return {
        "earlier_features": torch.stack([f.features.unflatten(0, shape) for f in frames], dim=1),
        "earlier_foreground": torch.stack(
            [f.foreground.unflatten(0, shape) for f in frames], dim=1
        ),
        "has_earlier": torch.ones(images.shape[:1] + (len(frames),), dtype=torch.bool),
    }


def made_up_samples(
    batch_size: int, *, num_frames: int, num_cameras: int, image_size: tuple[int, int]
) -> list[dict]:
    """Samples of a ring of cameras that drives on, with clouds of colour for images; always the
    same ones."""
    generator = torch.Generator().manual_seed(0)
    return [_made_up(generator, num_frames, num_cameras, image_size) for _ in range(batch_size)]


def _made_up(
    generator: torch.Generator, num_frames: int, num_cameras: int, image_size: tuple[int, int]
) -> dict:
    height, width = image_size
    coarse = (num_frames * num_cameras, 3, math.ceil(height / 8), math.ceil(width / 8))
    colours = F.interpolate(torch.rand(coarse, generator=generator), image_size, mode="bilinear")
    yaw = 2 * math.pi * torch.arange(num_cameras, dtype=torch.float64) / num_cameras + 0.0137
    rotation = rotation_z(yaw) @ torch.tensor(_CAMERA_AXES, dtype=torch.float64)
    place = rotation[..., 2] + torch.tensor([0.2131, 0.0173, 1.5137])
    earlier = torch.arange(num_frames, dtype=torch.float64)[:, None]
    driven = earlier * torch.tensor([-2.17, 0.13, 0.0], dtype=torch.float64)
    ego2global = make_transform(rotation_z(-0.021 * earlier[:, 0]), driven)
    focal = 0.79 * width
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    rig = (num_frames, num_cameras)
    return {
        "images": (255 * colours).byte().view(*rig, 3, height, width),
        "cam2ego": make_transform(rotation, place).expand(*rig, 4, 4),
        "ego2global": ego2global[:, None].expand(*rig, 4, 4),
        "intrinsics": intrinsics.double().expand(*rig, 3, 3),
        "image_aug": torch.eye(4).expand(num_cameras, 4, 4),
        "bev_aug": torch.eye(4),
    }
