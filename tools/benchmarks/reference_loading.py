"""The published way to a training sample, stated anew, from files and draws that are given.

Letters: T frames (0 is the key frame), N cameras, H x W network image, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fsdbev.data.image_aug import ImageTransform
from fsdbev.data.targets import HEATMAP_STRIDE
from fsdbev.structures import CLASS_NAMES

from .stopwatch import Stopwatch

_MEAN = np.array([[123.675, 116.28, 103.53]])
_STD = np.array([[58.395, 57.12, 57.375]])


@dataclass(frozen=True)
class ReferenceInput:
    """What is at hand before a sample is loaded; 2D boxes are prepared offline.

    Attributes:
        images: T x N image files.
        points: T x N files of (4, P) u, v, depth, class of the points, -1 background.
        transforms: N.
        boxes, class_ids: of each of the key frame's cameras (M, 4) and (M,).
    """

    images: Sequence[Sequence[Path]]
    points: Sequence[Sequence[Path]]
    transforms: Sequence[ImageTransform]
    boxes: Sequence[NDArray]
    class_ids: Sequence[NDArray]


def load(given: ReferenceInput, watch: Stopwatch) -> dict[str, Tensor]:
    """``images`` (T, N, 3, H, W) float32, normalised; ``gt_depth``, ``gt_foreground`` (T, N, H, W)
    float32; ``gt_heatmap`` (N, C, H/4, W/4). Camera by camera, frame by frame. 3D boxes and
    matrices, which take little time, are left out."""
    heatmaps: list[Tensor] = []
    images, depth, foreground = ([[] for _ in given.images] for _ in range(3))
    for camera, transform in enumerate(given.transforms):
        with watch("heatmaps"):
            heatmaps.append(_heatmap(given, camera))
        for time, (files, labels) in enumerate(zip(given.images, given.points)):
            with watch("decode"):
                image = Image.open(files[camera])
                image.load()
            with watch("augment"):
                image = augmented(image, transform)
            with watch("normalise"):
                images[time].append(_normalised(image))
            with watch("label maps"):
                maps = _label_maps(labels[camera], transform)
                depth[time].append(maps[0])
                foreground[time].append(maps[1])
    with watch("normalise"):
        pixels = _stacked(images)
    with watch("label maps"):
        labels = {"gt_depth": _stacked(depth), "gt_foreground": _stacked(foreground)}
    return {"images": pixels, **labels, "gt_heatmap": torch.stack(heatmaps)}


def _stacked(frames: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(list(frame)) for frame in frames])


def augmented(image: Image.Image, transform: ImageTransform) -> Image.Image:
    """Resized whole, then cropped, mirrored, turned."""
    (left, top), (width, height) = transform.crop, transform.output
    image = image.resize(transform.resized, Image.Resampling.BICUBIC)
    image = image.crop((left, top, left + width, top + height))
    if transform.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.rotate(transform.rotation)


def _normalised(image: Image.Image) -> Tensor:
    pixels = np.array(image).astype(np.float32)
    cv2.subtract(pixels, _MEAN, pixels)
    cv2.multiply(pixels, 1 / _STD, pixels)
    return torch.tensor(pixels).float().permute(2, 0, 1).contiguous()


def _label_maps(path: Path, transform: ImageTransform) -> tuple[Tensor, Tensor]:
    """In float64, with pixels in int16."""
    u, v, depth, class_ids = np.load(path).astype(np.float64)
    width, height = transform.output
    u, v = u * transform.resize - transform.crop[0], v * transform.resize - transform.crop[1]
    if transform.flip:
        u = width - u
    angle = np.radians(transform.rotation)
    turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    middle = np.array([[width / 2], [height / 2]])
    column, row = (np.matmul(turn, np.stack([u, v]) - middle) + middle).astype(np.int16)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    maps = np.zeros((height, width)), np.zeros((height, width))
    for one, values in zip(maps, (depth * transform.depth_scale, class_ids >= 0)):
        one[row[inside], column[inside]] = values[inside]
    return torch.Tensor(maps[0]), torch.Tensor(maps[1])


def _heatmap(given: ReferenceInput, camera: int) -> Tensor:
    """Drawn class by class on maps as large as the original image, which are warped as it is."""
    transform = given.transforms[camera]
    width, height = transform.output
    cells = (width // HEATMAP_STRIDE, height // HEATMAP_STRIDE)
    if not len(given.boxes[camera]):
        return torch.zeros(len(CLASS_NAMES), *cells[::-1])
    with Image.open(given.images[0][camera]) as image:
        maps = torch.zeros(len(CLASS_NAMES), *image.size[::-1])
    for box, class_id in zip(torch.from_numpy(given.boxes[camera]), given.class_ids[camera]):
        _draw(maps[class_id], box)
    pixels = np.array(maps.permute(1, 2, 0).contiguous())
    affine = transform.matrix()[:2, [0, 1, 3]]
    seen = cv2.resize(cv2.warpAffine(pixels, affine, (width, height)), cells)
    return torch.from_numpy(seen).permute(2, 0, 1).contiguous()


def _draw(heatmap: Tensor, box: Tensor) -> None:
    """Max-combines an elliptical Gaussian with sigma (2 radius + 1) / 4 and cut at its radii."""
    x, y = ((box[:2] + box[2:]) / 2).int().tolist()
    rx, ry = ((box[2:] - box[:2]) / 2).int().tolist()
    across = torch.arange(-rx, rx + 1.0)[None]
    down = torch.arange(-ry, ry + 1.0)[:, None]
    sigma_x, sigma_y = (2 * rx + 1) / 4, (2 * ry + 1) / 4
    values = (-(across**2) / (2 * sigma_x**2) - down**2 / (2 * sigma_y**2)).exp()
    values[values < torch.finfo(values.dtype).eps * values.max()] = 0
    height, width = heatmap.shape
    left, right = min(x, rx), min(width - x, rx + 1)
    top, bottom = min(y, ry), min(height - y, ry + 1)
    part = heatmap[y - top : y + bottom, x - left : x + right]
    torch.max(part, values[ry - top : ry + bottom, rx - left : rx + right], out=part)
