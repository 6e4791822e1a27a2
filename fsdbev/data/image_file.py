"""Image files as arrays, with Pillow's pixels.

Plain JPEG files, which is what cameras give, are decoded by simplejpeg: quicker than Pillow and
OpenCV, and of these two it is OpenCV that takes a file that ends too early for a whole one. All
three have libjpeg-turbo inside, so with the same settings the pixels are the same. All else is left
to Pillow: other formats, colour spaces and samplings, files with defects, and every image on a
machine that simplejpeg is not built for.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

#: Chroma samplings that every libjpeg-turbo undoes in the same way.
_SAMPLINGS = ("444", "422", "420")


def read_image(path: Path) -> NDArray[np.uint8]:
    """(height, width, 3) RGB.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it can't be decoded.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such image; is the data root right?") from error
    pixels = _decode_plain_jpeg(data)
    if pixels is not None:
        return pixels
    try:
        image = Image.open(io.BytesIO(data))
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: can't be decoded ({error}); fetch it again") from error


def _decode_plain_jpeg(data: bytes) -> NDArray[np.uint8] | None:
    """None for what is left to Pillow."""
    if simplejpeg is None or not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        _, _, colour_space, sampling = simplejpeg.decode_jpeg_header(data)
        if colour_space != "YCbCr" or sampling not in _SAMPLINGS:
            return None
        return simplejpeg.decode_jpeg(data, "RGB", strict=True)  # anything odd is an error
    except ValueError:
        return None
