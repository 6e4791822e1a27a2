"""Made-up input of the view transform: a ring of cameras, and masks as training has them.

The cameras are all a little different and nothing is round, so that no frustum point lies on the
border of a cell: what computes cells in float32 finds those that float64 finds.

Letters: S weight sets, B samples, N cameras, V = B N views, D depth bins, h x w feature map.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fsdbev.layers import Frustum
from fsdbev.structures import BEVGrid, Cameras, make_transform, rotation_z

#: Original image (width, height) and focal length, pixels.
SOURCE, FOCAL = (1600, 900), 1266.4
DEPTHS = (1.0, 60.0)
#: Foreground that takes part, and the probability of pixels that do and of those that do not.
THRESHOLD, FOREGROUND, BACKGROUND = 0.1, 0.83, 0.02
#: Columns: right, down and forward of a camera that looks along x, a little upward or downward.
CAMERA_AXES = ((0, -0.011, 1), (-1, 0, 0), (0, -1, -0.011))
#: Features from one centre of a blob of the clustered masks to the next.
_BLOB = 4

#: (S, V, D, h, w) weights and (S, V, h, w) foreground.
Masks = tuple[Tensor, Tensor]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--views", type=int, default=6, help="cameras of a sample")
    parser.add_argument("--bins", type=int, default=118, help="depth bins")
    parser.add_argument("--channels", type=int, default=80)
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 704), help="height, width")
    parser.add_argument("--grid", type=int, default=128, help="cells along a side of 102.4 m")


@dataclass(frozen=True)
class Sizes:
    """N, D, C, network image (H, W) and cells along a side of the grid."""

    views: int
    bins: int
    channels: int
    image_size: tuple[int, int]
    grid: int

    @classmethod
    def of(cls, args: argparse.Namespace) -> Sizes:
        numbers = (args.views, args.bins, args.channels, *args.image_size, args.grid)
        if min(numbers) < 1 or min(args.image_size) < 16:
            raise ValueError(
                "--views, --bins, --channels and --grid start at 1, --image-size at 16 16; got "
                f"{', '.join(map(str, numbers))}"
            )
        return cls(args.views, args.bins, args.channels, tuple(args.image_size), args.grid)

    def __str__(self) -> str:
        height, width = self.feature_size
        side = f"{self.grid}x{self.grid}"
        return f"N {self.views}, D {self.bins}, {height}x{width}, C {self.channels}, {side}"

    @property
    def feature_size(self) -> tuple[int, int]:
        return (self.image_size[0] // 16, self.image_size[1] // 16)

    def frustum(self) -> Frustum:
        grid = BEVGrid(cell=102.4 / self.grid)
        return Frustum(
            image_size=self.image_size,
            depth_start=DEPTHS[0],
            depth_step=(DEPTHS[1] - DEPTHS[0]) / self.bins,
            lower=grid.lower,
            size=grid.size,
            count=grid.count,
        )

    def cameras(self, batch: int, device: torch.device) -> Cameras:
        """One frame of ``batch`` samples, each camera with its own augmentation."""
        number = torch.arange(batch * self.views, dtype=torch.float64).view(batch, self.views)
        yaw = 2 * math.pi * number / self.views + 0.0137 * (number + 1)
        rotation = rotation_z(yaw) @ torch.tensor(CAMERA_AXES, dtype=torch.float64)
        place = rotation[..., 2] + torch.tensor([0.2131, 0.0173, 1.5137])
        intrinsics = torch.tensor([[FOCAL, 0, 816.3], [0, FOCAL, 491.5], [0, 0, 1]])
        bev_aug = make_transform(0.9871 * rotation_z(0.2137 + 0.05 * number[:, 0]))
        return Cameras(
            cam2keyego=make_transform(rotation, place)[:, None].to(device),
            intrinsics=intrinsics.expand(batch, 1, self.views, 3, 3).to(device),
            image_aug=self._image_aug(number).to(device),
            bev_aug=bev_aug.to(device),
        )

    def _image_aug(self, number: Tensor) -> Tensor:
        """Numbers of cameras -> (..., 4, 4): scaled to the network image's width and a bit more,
        turned a little, cropped, depth scaled back."""
        scale = self.image_size[1] / SOURCE[0] * (1.031 + 0.003 * number)
        linear = scale[..., None, None] * rotation_z(0.0213 - 0.001 * number)
        linear[..., 2, 2] = 1 / 1.0317
        overhang = scale[..., None] * torch.tensor(SOURCE) - torch.tensor(self.image_size[::-1])
        shift = F.pad(-overhang * torch.tensor([0.47, 0.96]), (0, 1))
        return make_transform(linear, shift)


def scattered(kept: float, shape: tuple[int, ...], generator: torch.Generator) -> Masks:
    """Every frustum point takes part or not for itself."""
    scores = torch.rand(shape, generator=generator)
    weights = torch.where(scores < kept, scores + 2 / shape[2], 0.1 / shape[2])
    return weights, torch.full((*shape[:2], *shape[3:]), FOREGROUND)


def clustered(kept: float, shape: tuple[int, ...], generator: torch.Generator) -> Masks:
    """As a model has it: blobs of foreground pixels, at each a run of neighbouring bins."""
    num_bins, share = shape[2], math.sqrt(kept)
    blobs = _smooth(shape, generator)
    background = blobs < blobs.quantile(1 - share)
    run = max(1, round(share * num_bins))
    first = (_smooth(shape, generator) * (num_bins - run + 1)).floor()[:, :, None]
    place = torch.arange(num_bins)[:, None, None] - first
    weights = (1.1 + torch.rand(shape, generator=generator)) / run
    weights = torch.where((place >= 0) & (place < run), weights, 0.1 / num_bins)
    return weights, torch.where(background, BACKGROUND, FOREGROUND)


def _smooth(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """(S, V, h, w) noise in 0 .. 1 that changes slowly from pixel to pixel."""
    coarse = [math.ceil(size / _BLOB) + 1 for size in shape[3:]]
    noise = torch.rand(*shape[:2], *coarse, generator=generator)
    return F.interpolate(noise, shape[3:], mode="bilinear", align_corners=True)


MASKS = {"scattered": scattered, "clustered": clustered}
