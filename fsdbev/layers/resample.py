"""Resampling of camera images to the network's input: resize, crop, flip, rotate.

Shapes: (height, width) original image, (H, W) network image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._extension import EXTENSION_BUILT, has_kernels
from .reference.resample import resample_image_reference


def resample_image(
    image: Tensor,
    *,
    resized: tuple[int, int],
    crop: tuple[int, int],
    output: tuple[int, int],
    flip: bool = False,
    rotation: float = 0.0,
) -> Tensor:
    """Resizes, crops, mirrors and rotates an image with the same bits as Pillow.

    Equals Pillow's bicubic ``resize``, ``crop``, ``FLIP_LEFT_RIGHT`` and nearest-neighbour
    ``rotate`` in this order, but computes visible pixels only. Resizing is cubic convolution
    (a = -1/2) over a window that widens when the image shrinks. Weights have units of 2^-22, and
    the intermediate image has bytes. Columns are resized first, as in Pillow up to version 12, and
    in version 13 unless the height loses more than twice as many pixels as the width.

    Args:
        image: (height, width, 3) uint8 on the CPU; sides of 1 to 2^20 pixels.
        resized: (width, height) after resizing, 1 to 2^20.
        crop: (left, top) corner of the output in the resized image; may be outside of it.
        output: (W, H), at most 2^14.
        flip: whether to mirror left and right.
        rotation: rotation about the centre of the output, degrees counter-clockwise.

    Returns:
        (3, H, W) uint8, black outside the image, without gradient.

    Raises:
        ValueError: the image or a size is not as stated, or the rotation is not finite.
    """
    if image.device.type != "cpu":
        raise ValueError(f"image must be on the CPU, got {image.device}")
    if not math.isfinite(rotation):
        raise ValueError(f"rotation must be finite, got {rotation}")
    if has_kernels(image.device):
        return torch.ops.fsdbev.resample_image(
            image, resized, crop, output, flip, _turn(rotation, output)
        )
    return resample_image_reference(image, resized, crop, output, flip, rotation)


def _turn(rotation: float, output: tuple[int, int]) -> list[int]:
    """Computes Pillow's fixed-point coefficients t of a rotation; empty for no rotation.

    Output pixel (x, y) takes the value of ((t0 x + t1 y + t2) >> 16, (t3 x + t4 y + t5) >> 16).
    """
    if rotation % 360 == 0:
        return []
    angle = math.radians(rotation % 360)
    # Rounded to 15 digits and to 16.16 fixed point as in Pillow, so that the bits are the same.
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    middle_x, middle_y = output[0] / 2, output[1] / 2
    numbers = []
    for a, b, middle in ((cos, -sin, middle_x), (sin, cos, middle_y)):
        start = middle - (a * middle_x + b * middle_y)
        # A pixel's centre is half a pixel from its corner.
        numbers += [a, b, start + a * 0.5 + b * 0.5]
    return [math.floor(number * 65536 + 0.5) for number in numbers]


def _fake_resample(image, resized, crop, output, flip, turn):
    return image.new_empty((3, output[1], output[0]))


if EXTENSION_BUILT:
    torch.library.register_fake("fsdbev::resample_image", _fake_resample)
