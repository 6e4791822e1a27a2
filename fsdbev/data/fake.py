"""Fake samples in the format of :class:`MultiViewMapper`, and fake rows of a frame index.

Tests, benchmarks and authors of plugins use them in place of a data set.

Shapes: T frames (0 is the key frame), N cameras, M boxes, H x W network image.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fsdbev.d2.structures import Instances
from fsdbev.structures import (
    BEVGrid,
    Boxes3D,
    DepthBins,
    invert,
    key_ego2global,
    make_transform,
    rotation_z,
    transform_points,
)

from .index.records import Frame
from .transforms.foreground_targets import heatmaps, image_boxes
from .transforms.image_aug import ImageAugmentation

# Lengths and angles are not round numbers, so that no frustum point lies on the border of a grid
# cell, where rounding would choose the cell.

#: Original images: (width, height), focal length and principal point, pixels.
_SOURCE_SIZE, _FOCAL, _CENTER = (1600, 900), 1263.71, (803.93, 457.37)
#: Rotation camera -> ego of a camera that faces along x; columns are right, down and forward.
_CAMERA_AXES = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
#: Center of the camera ring, ego frame, metres; yaw of the first camera, rad.
_RIG_CENTER, _FIRST_YAW = (0.2131, 0.0173, 1.5137), 0.0137
#: Vehicle: position in frame 0 (global, metres), step (metres) and turn (rad) per frame.
_START, _STEP, _TURN = (613.71, 1604.37, 0.0), (2.17, -0.13, 0.0), 0.021
#: Delay from one camera to the next, as a fraction of the time between frames.
_CAMERA_DELAY = 0.017
_FRAME_INTERVAL = 500_000  # microseconds

_NUM_BOXES = 40
#: Range of the random boxes: x, y as a fraction of the grid; z, l, w, h, yaw, vx, vy in m, rad and
#: m/s.
_LOWEST = torch.tensor([0.06, 0.06, -1, 0.6, 0.6, 1, -3.1, -3, -3])
_HIGHEST = torch.tensor([0.94, 0.94, 1, 8, 2.5, 3, 3.1, 3, 3])
#: Fraction of pixels with a depth, and of these on foreground objects; similar to nuScenes.
_DEPTH_FRACTION, _FOREGROUND_FRACTION = 0.02, 0.15


def fake_samples(batch_size: int, **settings: Any) -> list[dict[str, Any]]:
    """Returns the first samples of :func:`fake_drive`, a batch to run a model without a data set.

    Example::

        sizes = dict(num_frames=model.num_frames, num_cameras=6, image_size=(256, 704))
        losses = model.train()(fake_samples(2, **sizes, training=True))
        detections = model.eval()(fake_samples(2, **sizes))

    Args:
        batch_size: number of samples.
        settings: arguments of :func:`fake_drive`.

    Raises:
        ValueError: a number of frames, cameras, classes or pixels is below 1.
    """
    return list(islice(fake_drive(**settings), batch_size))


def fake_drive(
    *,
    num_frames: int,
    num_cameras: int,
    image_size: tuple[int, int],
    training: bool = False,
    num_classes: int = 10,
    grid: BEVGrid | None = None,
    depth_bins: DepthBins | None = None,
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """Yields an endless sequence of samples of a moving vehicle with a ring of cameras.

    The same arguments always yield the same samples. Every sample has the entries of a
    ``MultiViewMapper`` sample with the same shapes and dtypes.

    The calibration is consistent: level cameras of 1600 x 900 pixels fire one after the other on a
    vehicle that moves and turns. Images are resized and cropped as at test time, without BEV
    augmentation. Frame t of a sample is the key frame of the sample t positions earlier, t half
    seconds before, so that the sequence can be streamed. The first sample has all T frames, too.

    The content is random. Images are smooth clouds of colour. In training, depth and foreground are
    scattered points, and every sample has new boxes of all classes, from which ``gt_heatmap`` is
    drawn. The samples can show that a model runs but not that it learns, because images and boxes
    are unrelated.

    Args:
        num_frames: T.
        num_cameras: N.
        image_size: (H, W) of the network image, pixels.
        training: adds ``gt_depth``, ``gt_foreground``, ``gt_heatmap`` and ``instances``.
        num_classes: number of classes of the boxes, ``len(model.classes)``.
        grid: BEV grid of the boxes, ``model.grid``; None for the default grid.
        depth_bins: depth bins of the points, ``model.depth_bins``; None for the default bins.
        seed: seed of images, points and boxes; the cameras are the same for every seed.

    Raises:
        ValueError: a number of frames, cameras, classes or pixels is below 1.
    """
    if min(num_frames, num_cameras, num_classes) < 1:
        raise ValueError(
            f"num_frames, num_cameras and num_classes must be at least 1, got {num_frames}, "
            f"{num_cameras} and {num_classes}"
        )
    drive = _Drive(
        num_cameras,
        ImageAugmentation(image_size=image_size),
        training,
        num_classes,
        grid or BEVGrid(),
        depth_bins or DepthBins(),
        seed,
        torch.Generator().manual_seed(seed),
    )
    return drive.samples(num_frames)


def camera_ring(
    num_cameras: int,
    *,
    center: Sequence[float] = _RIG_CENTER,
    radius: float = 1.0,
    first_yaw: float = _FIRST_YAW,
) -> Tensor:
    """Returns the poses of level cameras on a circle, facing outward at equal angles.

    Args:
        num_cameras: N.
        center: center of the circle, ego frame, metres.
        radius: radius of the circle, metres.
        first_yaw: yaw of the first camera, rad; the others follow counter-clockwise.

    Returns:
        (N, 4, 4) float64 cam2ego.
    """
    number = torch.arange(num_cameras, dtype=torch.float64)
    yaw = 2 * math.pi / num_cameras * number + first_yaw
    rotation = rotation_z(yaw) @ yaw.new_tensor(_CAMERA_AXES)
    # The last column of the rotation is the viewing direction, which points outward.
    return make_transform(rotation, radius * rotation[..., 2] + yaw.new_tensor(center))


def fake_frame(
    row: int, count: int, *, image_sizes: Sequence[tuple[int, int]], reference_camera: int = 0
) -> Frame:
    """Returns a row of a frame index: one sample of a scene whose samples are half a second and
    five metres apart.

    Its image files do not exist, and it has no LiDAR sweep. The cameras form a ring, have a
    horizontal field of view of 53 degrees and fire at different times.

    Args:
        row: row of the sample, 0 .. count - 1.
        count: number of samples of the scene.
        image_sizes: (width, height) of the images of each of the N cameras, pixels.
        reference_camera: index of the reference camera.
    """
    cameras = len(image_sizes)
    ego2global = np.tile(np.eye(4), (cameras, 1, 1))
    ego2global[:, :3, 3] = [1000 + 5.0 * row, 500, 0]
    ego2global[:, 0, 3] += 0.1 * np.arange(cameras)
    timestamp = _FRAME_INTERVAL * row
    return Frame(
        sample_token=f"sample{row}",
        scene_token="scene",
        scene_name="scene-fake",
        timestamp=timestamp,
        previous=row - 1,
        next=row + 1 if row + 1 < count else -1,
        channels=tuple(f"CAM_{n}" for n in range(cameras)),
        image_paths=tuple(f"images/{row}_{n}.png" for n in range(cameras)),
        image_sizes=np.array(image_sizes, np.int32),
        camera_timestamps=timestamp + np.arange(cameras),
        intrinsics=np.stack([[[w, 0, w / 2], [0, w, h / 2], [0, 0, 1.0]] for w, h in image_sizes]),
        cam2ego=camera_ring(cameras, center=(0, 0, 1.5), radius=0.5, first_yaw=0).numpy(),
        ego2global=ego2global,
        reference_camera=reference_camera,
    )


@dataclass(frozen=True)
class _Drive:
    """Generator of the samples of :func:`fake_drive`.

    The order of the random draws (images, depth, hits, foreground, boxes) defines the samples of a
    seed.
    """

    num_cameras: int
    image_aug: ImageAugmentation
    training: bool
    num_classes: int
    grid: BEVGrid
    depth_bins: DepthBins
    seed: int
    generator: torch.Generator

    def samples(self, num_frames: int) -> Iterator[dict[str, Any]]:
        frames = deque(maxlen=num_frames)
        # Yields nothing until the window is full, so that the first sample has T frames, too.
        for number in count():
            frames.appendleft(self._frame(number))
            if len(frames) == num_frames:
                tokens = [f"fake-{self.seed}-{number - t}" for t in range(num_frames)]
                yield self._sample(number, tokens, frames)

    def _sample(
        self, number: int, tokens: list[str], frames: deque[dict[str, Tensor]]
    ) -> dict[str, Any]:
        matrix = torch.from_numpy(self.image_aug.fixed(_SOURCE_SIZE).matrix())
        sample = {key: torch.stack([frame[key] for frame in frames]) for key in frames[0]}
        sample |= {
            "image_aug": matrix.float().repeat(self.num_cameras, 1, 1),
            "bev_aug": torch.eye(4),
            "key_ego2global": sample["ego2global"][0, 0],
            "sample_token": tokens[0],
            "scene_token": f"fake-{self.seed}",
            "timestamp": _FRAME_INTERVAL * number,
            "frame_tokens": tokens,
        }
        if self.training:
            sample["instances"] = self._instances()
            sample["gt_heatmap"] = self._heatmaps(sample)
        return sample

    def _frame(self, number: int) -> dict[str, Tensor]:
        """Returns the per-frame entries of a sample, each (N, ...)."""
        time = number + _CAMERA_DELAY * torch.arange(self.num_cameras, dtype=torch.float64)
        place = time.new_tensor(_START) + time[:, None] * time.new_tensor(_STEP)
        (u, v), focal = _CENTER, _FOCAL
        intrinsics = time.new_tensor([[focal, 0, u], [0, focal, v], [0, 0, 1]])
        frame = {
            "images": self._random_images(),
            "cam2ego": camera_ring(self.num_cameras),
            "ego2global": make_transform(rotation_z(_TURN * time), place),
            "intrinsics": intrinsics.repeat(self.num_cameras, 1, 1),
        }
        return frame | self._random_depth() if self.training else frame

    def _random_images(self) -> Tensor:
        height, width = self.image_aug.image_size
        # Upsampled from a coarse grid, so that neighbouring pixels are similar as in photographs.
        coarse = self._rand(self.num_cameras, 3, math.ceil(height / 8), math.ceil(width / 8))
        return (255 * F.interpolate(coarse, (height, width), mode="bilinear")).byte()

    def _random_depth(self) -> dict[str, Tensor]:
        pixels = (self.num_cameras, *self.image_aug.image_size)
        bins = self.depth_bins
        # Less than the last bin, which rounding could leave.
        depth = bins.start + (bins.stop - bins.start - bins.step) * self._rand(*pixels)
        hit = self._rand(*pixels) < _DEPTH_FRACTION
        return {
            "gt_depth": torch.where(hit, depth, 0.0),
            "gt_foreground": hit & (self._rand(*pixels) < _FOREGROUND_FRACTION),
        }

    def _instances(self) -> Instances:
        instances = Instances(self.image_aug.image_size)
        boxes = _LOWEST + self._rand(_NUM_BOXES, len(_LOWEST)) * (_HIGHEST - _LOWEST)
        lower, upper = torch.tensor([self.grid.x_range, self.grid.y_range]).T
        boxes[:, :2] = lower + boxes[:, :2] * (upper - lower)
        instances.gt_boxes_3d = Boxes3D(boxes)
        instances.gt_classes = torch.arange(_NUM_BOXES) % self.num_classes
        return instances

    def _heatmaps(self, sample: dict[str, Any]) -> Tensor:
        # Each camera has its own ego pose, because the cameras fire at different times: boxes move
        # from key ego to a camera through the global frame.
        cam2global = sample["ego2global"][0] @ sample["cam2ego"][0]
        keyego2cam = invert(cam2global) @ key_ego2global(sample)
        corners = sample["instances"].gt_boxes_3d.corners().double().flatten(0, 1)
        in_cameras = transform_points(corners, keyego2cam).unflatten(1, (-1, 8)).numpy()
        intrinsics = sample["intrinsics"][0].numpy()
        boxes_2d = [image_boxes(c, k, _SOURCE_SIZE) for c, k in zip(in_cameras, intrinsics)]
        classes = sample["instances"].gt_classes.numpy()
        return heatmaps(
            [boxes for boxes, _ in boxes_2d],
            [classes[owners] for _, owners in boxes_2d],
            sample["image_aug"].double().numpy(),
            np.tile(_SOURCE_SIZE, (self.num_cameras, 1)),
            num_classes=self.num_classes,
            image_size=self.image_aug.image_size,
        )

    def _rand(self, *size: int) -> Tensor:
        return torch.rand(*size, generator=self.generator)
