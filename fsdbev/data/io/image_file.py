"""Image files as arrays, with Pillow's pixels.

Plain JPEG files, which is what cameras give, are decoded by simplejpeg: quicker than Pillow and
OpenCV, and of these two it is OpenCV that takes a file that ends too early for a whole one. All
three have libjpeg-turbo inside, so with the same settings the pixels are the same. All else is left
to Pillow: other formats, colour spaces and samplings, files with defects, and every image on a
machine that simplejpeg is not built for.

The size is read from the header and compared before anything is decoded: a file of a few bytes can
claim gigabytes of pixels.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsdbev.utils.plain_file import open_file, read_bytes

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

#: An image of no expected size may have so many pixels: ten times those of the largest cameras.
MAX_PIXELS = 1 << 27
_MAX_BYTES = 1 << 29
_MISSING = "no such image; is the data root right?"
#: Chroma samplings that every libjpeg-turbo undoes in the same way.
_SAMPLINGS = ("444", "422", "420")
#: Pillow knows many more; for one of them it runs another program on the file.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")


class ImageFile:
    """An image file: read, not decoded yet.

    Attributes:
        path: where it is.
        size: (width, height) that its header says.

    Raises:
        FileNotFoundError, OSError: there is no such file, or it can't be opened.
        ValueError: it is no plain file, or no image.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path
        self._data = read_bytes(path, _MAX_BYTES, _MISSING)
        plain_size = _plain_jpeg_size(self._data)
        self._is_plain = plain_size is not None
        with self._decoding():
            self.size = plain_size or self._open().size

    def decode(self) -> NDArray[np.uint8]:
        """(height, width, 3) RGB: the pixels as they are stored, which is what calibration is of.
        A note that they are to be shown turned (EXIF) is not followed. Grey becomes three equal
        colours, transparency is left out, of several pictures in a file the first is taken.

        Raises:
            ValueError: it can't be decoded, or is grey of more than 8 bits.
        """
        if self._is_plain:
            with suppress(ValueError):  # Pillow decides what can be read all the same
                return simplejpeg.decode_jpeg(self._data, "RGB", strict=True)
        with self._decoding():
            image = self._open()
            if image.mode.startswith(("I", "F")):  # Pillow would cut off what is above 255
                raise ValueError(f"mode {image.mode}: store it with 8 bits")
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))

    def _open(self) -> Image.Image:
        return Image.open(io.BytesIO(self._data), formats=_FORMATS)

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """Damaged bytes make decoders raise errors of all kinds: here it is one."""
        try:
            yield
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise ValueError(f"{self.path}: can't be decoded ({reason}); fetch it again") from error


def read_image(path: str | os.PathLike) -> NDArray[np.uint8]:
    """(height, width, 3) RGB of an image that may have any sensible size.

    Raises:
        As :class:`ImageFile` does and its ``decode``, and ValueError: it claims more pixels than
            any camera has. They are not decoded then.
    """
    image = ImageFile(path)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{path}: its header claims {width} x {height} px; is it an image?")
    return image.decode()


def image_header(path: str | os.PathLike) -> tuple[str, tuple[int, int]] | None:
    """Format and (width, height) that a file's header says, without reading the rest; None if the
    header can't be read.

    Raises:
        OSError, ValueError: there is no such plain file.
    """
    with open_file(path, _MISSING) as file:
        try:
            with Image.open(file, formats=_FORMATS) as image:
                return image.format, image.size
        except Exception:  # of all kinds, see above; decoding the file says what is wrong
            return None


def _plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height); None for what is left to Pillow."""
    if simplejpeg is None or not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, colour_space, sampling = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (width, height) if colour_space == "YCbCr" and sampling in _SAMPLINGS else None
