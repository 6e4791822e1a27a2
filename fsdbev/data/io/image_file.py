"""Reads image files into arrays with the same pixels as Pillow.

simplejpeg decodes common JPEG files. It is faster than Pillow and OpenCV, and unlike both it
refuses files with defects. All three use libjpeg-turbo and return the same pixels with the same
settings. Pillow decodes other formats, JPEG files of other colour spaces and chroma samplings after
simplejpeg has read them, and all images where simplejpeg is not installed. It refuses PNG files
with defects, but of files in other formats only those that are cut short.

The size is read from the header before decoding, because the header of a small file can declare
gigabytes of pixels.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import PIL.ImageFile
from numpy.typing import NDArray
from PIL import Image

from fsdbev.utils.plain_file import read_bytes

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
        #: Colour space and chroma sampling of a JPEG file that simplejpeg reads.
        self._jpeg: list[str] | None = None
        with self._decoding():
            if simplejpeg is not None and self._data.startswith(b"\xff\xd8\xff"):
                height, width, *self._jpeg = simplejpeg.decode_jpeg_header(self._data)
                self.size = width, height
            else:
                self.size = self._open().size

    @property
    def crc(self) -> int:
        """CRC-32 of the file."""
        return zlib.crc32(self._data)

    def decode(self, at_least: tuple[int, int] = (1 << 30, 1 << 30)) -> NDArray[np.uint8]:
        """Decodes the image.

        Pixels are returned as stored, because intrinsics refer to them: an EXIF orientation is
        ignored. Grey images become RGB, an alpha channel is dropped, and the first of several
        images in a file is used.

        Args:
            at_least: (width, height) that is needed. simplejpeg reads a half, a quarter or an
                eighth of a JPEG file's size, rounded up, if that suffices. By default the size is
                that of the file.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            ValueError: the file can't be decoded, or is a grey image with more than 8 bits.
        """
        with self._decoding():
            if self._jpeg:
                # Pillow ignores defects, so that it must not read a file that this refuses.
                width, height = self._reduced_size(at_least)
                pixels = simplejpeg.decode_jpeg(
                    self._data, "RGB", min_width=width, min_height=height, strict=True
                )
                colour_space, sampling = self._jpeg
                if colour_space == "YCbCr" and sampling in _SAMPLINGS:
                    return pixels
            image = self._open()
            # Pillow's conversion to RGB would clip these modes at 255.
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"mode {image.mode}: store it with 8 bits")
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))

    def _reduced_size(self, at_least: tuple[int, int]) -> tuple[int, int]:
        # The decoder supports other fractions too, but these are the only fast ones.
        for divisor in (8, 4, 2):
            width, height = (-(-side // divisor) for side in self.size)
            if width >= at_least[0] and height >= at_least[1]:
                return width, height
        return self.size

    def _open(self) -> Image.Image:
        return Image.open(io.BytesIO(self._data), formats=_FORMATS)

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """Raises every error of the block as a ValueError that names the file."""
        # Other packages may have set this option, with which Pillow fills missing pixels.
        lenient = PIL.ImageFile.LOAD_TRUNCATED_IMAGES
        PIL.ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        # Decoders raise errors of many types on damaged bytes, even SyntaxError.
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise ValueError(f"{self.path}: can't be decoded ({reason}); fetch it again") from error
        finally:
            PIL.ImageFile.LOAD_TRUNCATED_IMAGES = lenient


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
