"""Image augmentation: transforms the pixels and returns the matrix of the transform.

An image is resized (Pillow's bicubic filter), cropped with its bottom kept, flipped and rotated
(nearest neighbour), as in BEVDet (arXiv:2112.11790). The matrix acts on column vectors
(u, v, depth, 1) of the original image. See docs/model.md, "Training data".

Shapes: H x W network image. Sizes of images are (width, height) unless stated otherwise.
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
    """A transform from an original image to a network image.

    Attributes:
        resize: scale of u and v.
        resized: size of the resized image.
        crop: left, top corner of the network image in the resized image; may be negative.
        output: size of the network image.
        flip: whether to mirror left and right.
        rotation: counter-clockwise rotation about the centre of the network image, degrees.
        depth_scale: scale of the depth.
    """

    resize: float
    resized: tuple[int, int]
    crop: tuple[int, int]
    output: tuple[int, int]
    flip: bool = False
    rotation: float = 0.0
    depth_scale: float = 1.0

    def matrix(self) -> NDArray[np.float64]:
        """Returns (4, 4) float64, original (u, v, depth) -> network image (u, v, scaled depth)."""
        width, height = self.output
        linear = np.eye(2) * self.resize
        offset = -np.array(self.crop, np.float64)
        if self.flip:
            mirror = np.diag([-1.0, 1.0])
            linear, offset = mirror @ linear, mirror @ offset + (width, 0)
        angle, centre = math.radians(self.rotation), np.array([width, height]) / 2
        # v points down: this matrix rotates counter-clockwise as displayed.
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        matrix = np.eye(4)
        matrix[:2, :2] = turn @ linear
        matrix[:2, 3] = turn @ (offset - centre) + centre
        matrix[2, 2] = self.depth_scale
        return matrix

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Transforms an image.

        Args:
            image: (height, width, 3) uint8 RGB.

        Returns:
            (3, H, W) uint8 RGB; black where the original image has no pixels.
        """
        # "W" copies read-only arrays, for which torch.from_numpy would warn.
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
    """Draws random image transforms for training; returns a fixed one for testing.

    Args:
        image_size: (H, W) of the network image.
        scale: range of s, drawn uniformly. An image is resized by (W / its width) * s; s is 1 at
            test time.
        flip_prob: probability of mirroring left and right.
        max_rotation: the rotation is drawn uniformly from +- this angle, degrees.
        scale_depth: divides the depth by s in training, because an object that appears s times
            larger appears s times nearer.

    Raises:
        ValueError: ``image_size`` is not positive, or ``scale`` is no increasing positive range.
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
        """Draws a transform for training.

        Args:
            source_size: (width, height) of the original image.
            generator: source of the random numbers.

        Raises:
            ValueError: the resized image would have less than one pixel.
        """
        # The order of the draws (scale, crop, flip, rotation) defines the transform of a seed.
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
        """Returns the transform of test time: resized to width W, bottom-aligned, centred.

        Args:
            source_size: (width, height) of the original image.

        Raises:
            ValueError: the resized image would have less than one pixel.
        """
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
        # Truncated to int. The tolerance keeps products that are integers except for rounding, such
        # as 1600 * (464 / 1600).
        resized = tuple(int(side * resize + 1e-9) for side in (width, height))
        if min(resized) < 1:
            raise ValueError(f"an image of {(width, height)} px vanishes when resized by {resize}")
        return resize, resized
