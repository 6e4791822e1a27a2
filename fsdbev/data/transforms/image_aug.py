"""Image augmentation: pixels and the matrix that says where they went.

An image is resized (Pillow's bicubic), cropped at its bottom, flipped and rotated (nearest
neighbour), as in BEVDet. The matrix acts on columns (u, v, depth, 1) of the original image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fsdbev.layers.resample import resample_image


@dataclass(frozen=True)
class ImageTransform:
    """One way to turn an original image into a network image. Sizes are (width, height).

    Attributes:
        resize: factor of u and v.
        resized: size after resizing.
        crop: left, top corner of the network image in the resized one; may be negative.
        output: size of the network image.
        flip: mirror left and right.
        rotation: degrees counter-clockwise about the centre of the network image.
        depth_scale: factor of the depth.
    """

    resize: float
    resized: tuple[int, int]
    crop: tuple[int, int]
    output: tuple[int, int]
    flip: bool = False
    rotation: float = 0.0
    depth_scale: float = 1.0

    def matrix(self) -> NDArray[np.float64]:
        """(4, 4) original (u, v, depth) -> network image (u, v, scaled depth)."""
        width, height = self.output
        linear = np.eye(2) * self.resize
        offset = -np.array(self.crop, np.float64)
        if self.flip:
            mirror = np.diag([-1.0, 1.0])
            linear, offset = mirror @ linear, mirror @ offset + (width, 0)
        angle, centre = math.radians(self.rotation), np.array([width, height]) / 2
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        matrix = np.eye(4)
        matrix[:2, :2] = turn @ linear
        matrix[:2, 3] = turn @ (offset - centre) + centre
        matrix[2, 2] = self.depth_scale
        return matrix

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(height, width, 3) image -> (3, H, W); black outside of it."""
        pixels = torch.from_numpy(np.require(image, np.uint8, "W"))
        return resample_image(
            pixels,
            resized=self.resized,
            crop=self.crop,
            output=self.output,
            flip=self.flip,
            rotation=self.rotation,
        ).numpy()


class ImageAugmentation:
    """Draws image transforms; at test time there is only one.

    Args:
        image_size: (H, W) of the network image.
        scale: range of s; the image is resized by (W / its width) * s. At test time s is 1.
        flip_prob: probability of mirroring.
        max_rotation: rotation is drawn from +- this many degrees.
        scale_depth: in training an object s times larger is labelled s times nearer.
    """

    def __init__(
        self,
        *,
        image_size: tuple[int, int],
        scale: tuple[float, float] = (0.5, 1.25),
        flip_prob: float = 0.5,
        max_rotation: float = 5.4,
        scale_depth: bool = True,
    ) -> None:
        height, width = image_size
        if height < 1 or width < 1:
            raise ValueError(f"image_size must be a positive (H, W), got {tuple(image_size)}")
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be an increasing positive range, got {tuple(scale)}")
        self.image_size = (int(height), int(width))
        self.output = (int(width), int(height))
        self.scale = tuple(scale)
        self.flip_prob = flip_prob
        self.max_rotation = max_rotation
        self.scale_depth = scale_depth

    def sample(
        self, source_size: tuple[int, int], generator: np.random.Generator
    ) -> ImageTransform:
        """A random transform for an image of ``source_size`` (width, height)."""
        scale = generator.uniform(*self.scale)
        resize, resized = self._resize(source_size, scale)
        spare = max(0, resized[0] - self.output[0])
        return ImageTransform(
            resize=resize,
            resized=resized,
            crop=(int(generator.uniform(0, spare)), resized[1] - self.output[1]),
            output=self.output,
            flip=bool(generator.random() < self.flip_prob),
            rotation=generator.uniform(-self.max_rotation, self.max_rotation),
            depth_scale=1 / scale if self.scale_depth else 1.0,
        )

    def fixed(self, source_size: tuple[int, int]) -> ImageTransform:
        """The transform of test time: resized to the network's width, centred, bottom-aligned."""
        resize, resized = self._resize(source_size, 1.0)
        left = max(0, resized[0] - self.output[0]) // 2
        return ImageTransform(
            resize=resize,
            resized=resized,
            crop=(left, resized[1] - self.output[1]),
            output=self.output,
        )

    def _resize(self, source_size: tuple[int, int], scale: float) -> tuple[float, tuple[int, int]]:
        width, height = int(source_size[0]), int(source_size[1])
        resize = self.output[0] / width * scale
        # Truncated, but what is whole but for rounding (1600 * (464 / 1600)) stays so.
        resized = tuple(int(side * resize + 1e-9) for side in (width, height))
        if min(resized) < 1:
            raise ValueError(f"an image of {(width, height)} px vanishes when resized by {resize}")
        return resize, resized
