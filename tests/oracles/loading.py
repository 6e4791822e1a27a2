"""A training sample of the public releases: Pillow images, label maps and heatmaps, one by one.

Shapes: T frames (0 is the key frame), N cameras, C classes, P points, M boxes, H x W network image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.records import Annotations, Frame
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.data.transforms.foreground_targets import HEATMAP_STRIDE, image_boxes
from fsdbev.data.transforms.image_aug import ImageTransform

from .heatmaps import published_heatmaps

_MEAN = np.array([[123.675, 116.28, 103.53]])
_STD = np.array([[58.395, 57.12, 57.375]])


def decode(path: Path) -> Image.Image:
    image = Image.open(path)
    image.load()
    return image


def augment(image: Image.Image, transform: ImageTransform) -> Image.Image:
    """Resizes the complete image, then crops, flips and rotates it."""
    (left, top), (width, height) = transform.crop, transform.output
    image = image.resize(transform.resized, Image.Resampling.BICUBIC)
    image = image.crop((left, top, left + width, top + height))
    if transform.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.rotate(transform.rotation)


def normalise(image: Image.Image) -> Tensor:
    """Returns the image (3, H, W) float32 with the mean and deviation of ImageNet."""
    pixels = np.array(image).astype(np.float32)
    cv2.subtract(pixels, _MEAN, pixels)
    cv2.multiply(pixels, 1 / _STD, pixels)
    return torch.tensor(pixels).float().permute(2, 0, 1).contiguous()


def label_maps(path: Path, transform: ImageTransform) -> tuple[Tensor, Tensor]:
    """Returns depth and foreground (H, W) float32, computed in float64 with pixels in int16.

    Args:
        path: file with a (4, P) array: u, v, depth and class of the points, -1 for background.
        transform: augmentation of the image.
    """
    u, v, depth, class_ids = np.load(path).astype(np.float64)
    width, height = transform.output
    u, v = u * transform.resize - transform.crop[0], v * transform.resize - transform.crop[1]
    if transform.flip:
        u = width - u
    angle = np.radians(transform.rotation)
    rotation = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    middle = np.array([[width / 2], [height / 2]])
    column, row = (np.matmul(rotation, np.stack([u, v]) - middle) + middle).astype(np.int16)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    maps = np.zeros((2, height, width))
    for label_map, values in zip(maps, (depth * transform.depth_scale, class_ids >= 0)):
        label_map[row[inside], column[inside]] = values[inside]
    return torch.Tensor(maps[0]), torch.Tensor(maps[1])


@dataclass(frozen=True)
class PublishedSample:
    """Files and random draws of a training sample, without 3D boxes and matrices.

    Attributes:
        files: paths of the T N images.
        points: paths of the T N files of points, see ``label_maps``.
        boxes: 2D boxes (M, 4) of the key frame, their cameras (M,) and their classes (M,).
        source_sizes: (N, 2) width and height of the images.
        transforms: augmentations of the N cameras.
        num_classes: C.
    """

    files: Sequence[Path]
    points: Sequence[Path]
    boxes: tuple[Tensor, Tensor, Tensor]
    source_sizes: Tensor
    transforms: Sequence[ImageTransform]
    num_classes: int

    @classmethod
    def prepare(
        cls, dataset: FrameDataset, mapper: MultiViewMapper, row: int, seed: int, folder: Path
    ) -> PublishedSample:
        """Draws what the mapper draws with the same seed; writes points to ``folder``."""
        rows = dataset.index.frame_rows(row, mapper.num_frames, mapper.frame_spacing)
        frames = [dataset.index[r] for r in rows]
        key, generator = frames[0], np.random.default_rng(seed)
        objects = dataset.index.annotations(row)
        points = [
            _write_points(dataset, frame, camera, folder)
            for frame in frames
            for camera in range(key.num_cameras)
        ]
        return cls(
            files=[dataset.dataroot / path for frame in frames for path in frame.image_paths],
            points=points,
            boxes=_boxes(key, objects.select(objects.has_points)),
            source_sizes=torch.tensor(key.image_sizes),
            transforms=[mapper.image_aug.sample(size, generator) for size in key.image_sizes],
            num_classes=len(dataset.classes),
        )

    def images(self) -> Tensor:
        """Returns normalised images (T, N, 3, H, W) float32."""
        transforms = self.all_transforms()
        images = [normalise(augment(decode(f), t)) for f, t in zip(self.files, transforms)]
        return torch.stack(images).unflatten(0, (-1, len(self.transforms)))

    def labels(self) -> tuple[Tensor, Tensor]:
        """Returns depth and foreground (T, N, H, W)."""
        maps = [label_maps(p, t) for p, t in zip(self.points, self.all_transforms())]
        depth, foreground = (torch.stack(of) for of in zip(*maps))
        sizes = (-1, len(self.transforms))
        return depth.unflatten(0, sizes), foreground.unflatten(0, sizes)

    def heatmaps(self) -> Tensor:
        """Returns heatmaps (N, C, H/4, W/4) of the key frame."""
        image_aug = torch.stack([torch.from_numpy(t.matrix()) for t in self.transforms])
        return published_heatmaps(
            *self.boxes,
            image_aug,
            self.source_sizes,
            num_classes=self.num_classes,
            image_size=self.transforms[0].output[::-1],
            stride=HEATMAP_STRIDE,
        )

    def all_transforms(self) -> list[ImageTransform]:
        """Returns the augmentations of the T N images."""
        return len(self.files) // len(self.transforms) * list(self.transforms)


def _write_points(dataset: FrameDataset, frame: Frame, camera: int, folder: Path) -> Path:
    found = dataset.point_labels(frame)[camera].select()
    path = folder / f"{frame.sample_token}_{camera}.npy"
    np.save(path, np.stack([found.u, found.v, found.depth, found.class_ids]))
    return path


def _boxes(frame: Frame, objects: Annotations) -> tuple[Tensor, Tensor, Tensor]:
    parts = []
    for camera, corners in enumerate(frame.corners_in_cameras(objects)):
        size = tuple(frame.image_sizes[camera])
        boxes, owners = image_boxes(corners, frame.intrinsics[camera], size)
        classes = torch.from_numpy(objects.class_ids[owners]).long()
        parts.append((torch.from_numpy(boxes), torch.full_like(classes, camera), classes))
    boxes, cameras, classes = (torch.cat(part) for part in zip(*parts))
    return boxes, cameras, classes


def labels_differ(ours: Sequence[Tensor], theirs: Sequence[Tensor], least: float = 0.99) -> str:
    """Returns how depth or foreground maps differ, or "" if enough labelled pixels are equal.

    The maps are not equal everywhere, because float32 and float64 may round the projection of a
    point to neighbouring pixels.
    """
    labelled = (ours[0] > 0) | (theirs[0] > 0)
    for name, a, b in zip(("depth", "foreground"), ours, theirs, strict=True):
        equal = ((a.float() - b.float()).abs() <= 1e-4)[labelled].float().mean().item()
        if not equal >= least:
            return f"{name}: {100 * equal:.1f} % of the labelled pixels are the same"
    return ""
