"""Reads image files into arrays with the same pixels as Pillow.

simplejpeg decodes common JPEG files. It is faster than Pillow and OpenCV, and unlike OpenCV it
refuses truncated files. All three use libjpeg-turbo and return the same pixels with the same
settings. Pillow decodes all other files: other formats, colour spaces and chroma samplings, JPEG
files with defects, and all images where simplejpeg is not installed.

The size is read from the header before decoding, because the header of a small file can declare
gigabytes of pixels.
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

#: Limit for images without an expected size: ten times the pixels of the largest cameras.
MAX_PIXELS = 1 << 27
#: Limit of the size of a file.
_MAX_BYTES = 1 << 29
_MISSING = "no such image; is the data root right?"
#: Chroma samplings that all versions of libjpeg-turbo upsample in the same way.
_SAMPLINGS = ("444", "422", "420")
#: Formats that Pillow may open. It supports more, but runs Ghostscript on PostScript files.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")


class ImageFile:
    """An image file whose bytes are read but not decoded.

    Attributes:
        path: path of the file.
        size: (width, height) from the header, pixels.

    Raises:
        FileNotFoundError, OSError: the file does not exist or can't be opened.
        ValueError: the path is no regular file, or the file is no image.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path
        self._data = read_bytes(path, _MAX_BYTES, _MISSING)
        plain_size = _plain_jpeg_size(self._data)
        self._is_plain_jpeg = plain_size is not None
        with self._decoding():
            self.size = plain_size or self._open().size

    def decode(self) -> NDArray[np.uint8]:
        """Decodes the image.

        Pixels are returned as stored, because intrinsics refer to them: an EXIF orientation is
        ignored. Grey images become RGB, an alpha channel is dropped, and the first of several
        images in a file is used.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            ValueError: the file can't be decoded, or is a grey image with more than 8 bits.
        """
        if self._is_plain_jpeg:
            # Pillow reads some files with defects that simplejpeg refuses, and has the last word.
            with suppress(ValueError):
                return simplejpeg.decode_jpeg(self._data, "RGB", strict=True)
        with self._decoding():
            image = self._open()
            # Pillow's conversion to RGB would clip these modes at 255.
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"mode {image.mode}: store it with 8 bits")
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))

    def _open(self) -> Image.Image:
        return Image.open(io.BytesIO(self._data), formats=_FORMATS)

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """Raises every error of the block as a ValueError that names the file."""
        try:
            yield
        # Decoders raise errors of many types on damaged bytes, even SyntaxError.
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise ValueError(f"{self.path}: can't be decoded ({reason}); fetch it again") from error


def read_image(path: str | os.PathLike) -> NDArray[np.uint8]:
    """Reads and decodes an image of unknown size.

    Args:
        path: path of the file.

    Returns:
        (height, width, 3) uint8 RGB, see :meth:`ImageFile.decode`.

    Raises:
        FileNotFoundError, OSError, ValueError: as :class:`ImageFile` and its ``decode``; also
            ValueError, without decoding, if the image has more than ``MAX_PIXELS`` pixels.
    """
    image = ImageFile(path)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{path}: its header declares {width} x {height} px; is it an image?")
    return image.decode()


def image_header(path: str | os.PathLike) -> tuple[str, tuple[int, int]] | None:
    """Reads the header of an image file.

    Args:
        path: path of the file.

    Returns:
        The format and (width, height); None if the header can't be read.

    Raises:
        OSError, ValueError: the path is no regular file.
    """
    with open_file(path, _MISSING) as file:
        try:
            with Image.open(file, formats=_FORMATS) as image:
                return image.format, image.size
        # Any type, as above. The caller gets the reason when it decodes the file.
        except Exception:
            return None


def _plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Returns (width, height) of a JPEG that simplejpeg can decode, None for other files."""
    if simplejpeg is None or not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, colour_space, sampling = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (width, height) if colour_space == "YCbCr" and sampling in _SAMPLINGS else None
