"""Writes a sequence of images as an H.264 video with PyAV.

Shapes: (H, W) image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from fsdbev.utils.atomic_write import atomic_path

#: Browsers and common players decode H.264 only with this pixel format.
_CODEC, _PIXEL_FORMAT = "libx264", "yuv420p"
#: PyAV container format by file extension.
_CONTAINERS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
#: Constant quality, high enough for small letters to stay sharp.
_OPTIONS = {"crf": "20", "preset": "veryfast"}


class VideoWriter:
    """Writes a video image by image.

    The file appears when the ``with`` block ends without an error. The first image sets the size.

        with VideoWriter("drive.mp4", fps=2) as video:
            video.add(image)

    Args:
        path: video file, ending in .mp4, .mkv or .mov; missing folders are created.
        fps: images per second.

    Raises:
        ValueError: the file has another ending, ``fps`` is not positive, or the block ends without
            an image.
    """

    def __init__(self, path: str | os.PathLike, fps: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in _CONTAINERS:
            raise ValueError(f"{self.path}: a video must end in {', '.join(_CONTAINERS)}")
        if not 0 < fps < float("inf"):
            raise ValueError(f"fps must be positive, got {fps}")
        # PyAV takes rates as fractions; 1001 keeps NTSC rates such as 30000/1001 exact.
        self._fps = Fraction(fps).limit_denominator(1001)
        self._size: tuple[int, int] | None = None  # height, width

    def __enter__(self) -> VideoWriter:
        self._writing = self._write()
        return self._writing.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._writing.__exit__(*error)

    @contextmanager
    def _write(self) -> Iterator[VideoWriter]:
        """Opens the container under a temporary name and finishes it when the block ends."""
        container = _CONTAINERS[self.path.suffix.lower()]
        # Browsers can play the file while it loads, because its index is at the beginning.
        options = {"movflags": "faststart"}
        with (
            atomic_path(self.path) as path,
            av.open(str(path), "w", format=container, options=options) as self._file,
        ):
            self._stream = self._file.add_stream(_CODEC, rate=self._fps, options=_OPTIONS)
            self._stream.pix_fmt = _PIXEL_FORMAT
            yield self
            if self._size is None:
                raise ValueError(f"{self.path}: a video needs at least one picture")
            # Without an image, encode() returns the packets that the encoder has delayed.
            self._file.mux(self._stream.encode())

    def add(self, picture: np.ndarray) -> None:
        """Appends an image.

        Args:
            picture: (H, W, 3) uint8 RGB, of the first image's size.

        Raises:
            ValueError: the image has another shape, type or size.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(
                f"a picture must be (H, W, 3) uint8, got {picture.shape} {picture.dtype}"
            )
        # yuv420p halves both sides of the colour planes, so that sizes must be even.
        height, width = (side - side % 2 for side in picture.shape[:2])
        if self._size is None:
            self._size = height, width
            self._stream.height, self._stream.width = height, width
        if (height, width) != self._size:
            raise ValueError(
                f"{self.path}: a picture has {(height, width)} pixels, but the video {self._size}"
            )
        pixels = np.ascontiguousarray(picture[:height, :width])
        self._file.mux(self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
