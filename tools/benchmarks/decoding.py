"""Ways to decode a JPEG file and ways to resize and crop its image, against each other."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsdbev.data.image_aug import ImageAugmentation, ImageTransform
from fsdbev.data.image_file import simplejpeg

from .reference_loading import augmented

_REPEAT = 5
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageRow:
    """A way to do a step: CPU time of an image (median), and how far its values are from Pillow's
    at most, in grey levels."""

    step: str
    way: str
    milliseconds: float
    difference: int

    def __str__(self) -> str:
        apart = f"within {self.difference} of Pillow's" if self.difference else "as Pillow's"
        return f"{self.step:<7} {self.way:<24} {self.milliseconds:>7.2f} ms  {apart}"


def image_rows(files: Sequence[Path], augmentation: ImageAugmentation) -> list[ImageRow]:
    """Files are in memory. Each image is resized by a random transform, the same for all ways."""
    contents = [file.read_bytes() for file in files]
    images = [_pillow(content).copy() for content in contents]  # may be written to, as the loader's
    generator = np.random.default_rng(0)
    sizes = [image.shape[1::-1] for image in images]
    transforms = [augmentation.sample(size, generator) for size in sizes]
    decoders = {"Pillow": _pillow, "OpenCV": _opencv}
    if simplejpeg is not None:
        decoders["simplejpeg (ours)"] = simplejpeg.decode_jpeg
    rows = _compare("decode", decoders, [(content,) for content in contents])
    pictures = [Image.fromarray(image) for image in images]
    resizers = {
        "Pillow, then crop": lambda picture, image, t: np.asarray(augmented(picture, t)),
        "Pillow, box of the crop": lambda picture, image, t: _boxed(picture, t),
        "resample_image (ours)": lambda picture, image, t: t.apply(image).transpose(1, 2, 0),
    }
    return rows + _compare("augment", resizers, list(zip(pictures, images, transforms)))


def _pillow(content: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(content)))


def _opencv(content: bytes) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return pixels[..., ::-1]


def _boxed(picture: Image.Image, transform: ImageTransform) -> Pixels:
    """Only the crop is resized, by Pillow's ``box``, which holds single-precision numbers."""
    (left, top), (width, height) = transform.crop, transform.output
    begin = max(left, 0), max(top, 0)
    end = min(left + width, transform.resized[0]), min(top + height, transform.resized[1])
    scale = [old / new for old, new in zip(picture.size, transform.resized)]
    box = [side * scale[i % 2] for i, side in enumerate((*begin, *end))]
    box[2:] = (min(side, size) for side, size in zip(box[2:], picture.size))
    size = (end[0] - begin[0], end[1] - begin[1])
    resized = picture.resize(size, Image.Resampling.BICUBIC, box=box)
    canvas = Image.new("RGB", transform.output)
    canvas.paste(resized, (begin[0] - left, begin[1] - top))
    if transform.flip:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(canvas.rotate(transform.rotation))


def _compare(
    step: str, ways: dict[str, Callable[..., Pixels]], inputs: Sequence[tuple]
) -> list[ImageRow]:
    """The first way is Pillow's own."""
    first = next(iter(ways.values()))
    apart = dict.fromkeys(ways, 0)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for values in inputs:
        expected = first(*values).astype(np.int16)
        for way, work in ways.items():
            apart[way] = max(apart[way], int(np.abs(work(*values) - expected).max()))
        for _ in range(_REPEAT):
            for way, work in ways.items():
                begin = time.process_time()
                work(*values)
                times[way].append(1e3 * (time.process_time() - begin))
    return [ImageRow(step, way, statistics.median(times[way]), apart[way]) for way in ways]
