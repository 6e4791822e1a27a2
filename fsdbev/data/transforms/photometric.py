"""Augmentation of the colours of network images; see ``augmentations`` of ``MultiViewMapper``.

Shapes: H x W network image.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

#: Maps a (H, W, 3) uint8 RGB image to one of the same shape.
PixelAugmentation = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def augment_pixels(
    image: NDArray[np.uint8], augmentations: Sequence[PixelAugmentation], seed: int
) -> NDArray[np.uint8]:
    """Applies augmentations one after the other, with the random numbers of a seed.

    They may draw from the global generators of Python, NumPy and PyTorch (on the CPU), whose states
    are restored afterwards.

    Args:
        image: (3, H, W) uint8 RGB.
        augmentations: functions of a (H, W, 3) uint8 RGB array.
        seed: 0 .. 2**32 - 1.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        ValueError: an augmentation returns something else than a uint8 array of the same shape.
    """
    pixels = image.transpose(1, 2, 0).copy()
    shape = pixels.shape
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        # Not torch.manual_seed, which seeds the GPUs too; their generators are not restored.
        torch.default_generator.manual_seed(seed)
        try:
            for augmentation in augmentations:
                pixels = augmentation(pixels)
                _check_pixels(pixels, shape, augmentation)
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
    return pixels.transpose(2, 0, 1)


def _check_pixels(pixels: object, shape: tuple[int, ...], augmentation: PixelAugmentation) -> None:
    if isinstance(pixels, np.ndarray) and (pixels.shape, pixels.dtype) == (shape, np.uint8):
        return
    found = type(pixels).__name__
    if isinstance(pixels, np.ndarray):
        found = f"{pixels.dtype} array of shape {pixels.shape}"
    name = getattr(augmentation, "__name__", type(augmentation).__name__)
    raise ValueError(
        f"augmentation {name} must return a uint8 array of shape {shape}, (H, W, 3) RGB, got "
        f"{found}"
    )


class ColorJitter:
    """Changes brightness, contrast, saturation and hue by random amounts, in random order.

    The amounts are defined as in torchvision's transform of this name. The random numbers come from
    PyTorch's global generator.

    Args:
        brightness, contrast, saturation: b: the factor is drawn uniformly from
            [max(0, 1 - b), 1 + b]; 0 changes nothing.
        hue: h in [0, 0.5]: the shift of the hue is drawn uniformly from [-h, h], as a fraction of
            the colour circle.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
    ) -> None:
        if min(brightness, contrast, saturation) < 0 or not 0 <= hue <= 0.5:
            raise ValueError(
                "brightness, contrast and saturation must be at least 0 and hue in [0, 0.5], got "
                f"{brightness}, {contrast}, {saturation} and {hue}"
            )
        self.strengths = {
            ImageEnhance.Brightness: brightness,
            ImageEnhance.Contrast: contrast,
            ImageEnhance.Color: saturation,
        }
        self.hue = hue

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the (H, W, 3) uint8 RGB image with changed colours."""
        # All numbers are drawn at first, so that a strength of 0 does not change the others.
        order = torch.randperm(4).tolist()
        places = torch.rand(4, dtype=torch.float64).tolist()
        changes = [*self.strengths.items(), (None, self.hue)]
        result = Image.fromarray(image)
        for index in order:
            enhancer, strength = changes[index]
            if not strength:
                continue
            if enhancer is None:
                result = _shift_hue(result, strength * (2 * places[index] - 1))
            else:
                lower, upper = max(0.0, 1 - strength), 1 + strength
                result = enhancer(result).enhance(lower + places[index] * (upper - lower))
        return np.array(result)


def _shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Shifts the hue by a fraction of the colour circle, in steps of 1 / 256."""
    hue, saturation, value = image.convert("HSV").split()
    steps = round(256 * shift)
    hue = hue.point([(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
