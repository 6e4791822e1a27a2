"""Reference implementation of image resampling, by Pillow.

Shapes: (height, width) original image, (H, W) network image.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

#: Limits of the kernel. Rotated positions of an output of 2^14 pixels fit its 16.16 fixed point.
_LARGEST_IMAGE = 2**20
_LARGEST_OUTPUT = 2**14


def resample_image_reference(
    image: Tensor,
    resized: tuple[int, int],
    crop: tuple[int, int],
    output: tuple[int, int],
    flip: bool,
    rotation: float,
) -> Tensor:
    """See :func:`fsdbev.layers.resample_image`."""
    _check(image, resized, crop, output)
    left, top = crop
    width, height = output
    if not (width and height):
        return image.new_zeros((3, height, width))
    picture = Image.fromarray(image.numpy())
    # One axis at a time: Pillow 13 resizes rows first if the height shrinks by far more.
    for size in ((resized[0], picture.height), resized):
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    picture = picture.crop((left, top, left + width, top + height))
    if flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.rotate(rotation, Image.Resampling.NEAREST)
    # The copy is contiguous, as is the kernel's result; transpose returns a strided view.
    return torch.from_numpy(np.array(picture).transpose(2, 0, 1).copy())


def _check(
    image: Tensor, resized: tuple[int, int], crop: tuple[int, int], output: tuple[int, int]
) -> None:
    if image.dim() != 3 or image.shape[2] != 3 or not image.numel():
        raise ValueError(f"image must be (height, width, 3), not empty, got {tuple(image.shape)}")
    if image.dtype != torch.uint8:
        raise ValueError(f"image must be uint8, got {image.dtype}")
    sizes = (image.shape[1], image.shape[0])
    _check_sizes("image", sizes, "width, height", 1, _LARGEST_IMAGE)
    _check_sizes("resized", resized, "width, height", 1, _LARGEST_IMAGE)
    _check_sizes("crop", crop, "left, top", -_LARGEST_IMAGE, _LARGEST_IMAGE)
    _check_sizes("output", output, "width, height", 0, _LARGEST_OUTPUT)


def _check_sizes(name: str, sizes: tuple[int, int], meaning: str, least: int, most: int) -> None:
    if len(sizes) != 2:
        raise ValueError(f"{name} must be {meaning}, got {list(sizes)}")
    if min(sizes) < least or max(sizes) > most:
        raise ValueError(f"{name} must be {meaning} in {least} .. {most}, got {list(sizes)}")
