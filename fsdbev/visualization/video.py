"""Pictures one after another as an H.264 video, written by PyAV."""

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

_CODEC, _PIXEL_FORMAT = "libx264", "yuv420p"  # what every browser and player shows
#: Ending of the file -> name of the format.
_CONTAINERS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
#: Constant quality: letters stay sharp.
_OPTIONS = {"crf": "20", "preset": "veryfast"}


class VideoWriter:
    """Writes a video picture by picture; the file appears when the block has ended without error.

    The first picture gives the size; an odd last column or row is left out, which H.264 cannot
    hold.

        with VideoWriter("drive.mp4", fps=2) as video:
            video.add(picture)

    Args:
        path: ends in .mp4, .mkv or .mov; folders are made when missing.
        fps: pictures a second.
    """

    def __init__(self, path: str | os.PathLike, fps: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in _CONTAINERS:
            raise ValueError(f"{self.path}: a video must end in {', '.join(_CONTAINERS)}")
        if not 0 < fps < float("inf"):
            raise ValueError(f"fps must be positive, got {fps}")
        self._fps = Fraction(fps).limit_denominator(1001)
        self._size: tuple[int, int] | None = None  # height, width

    def __enter__(self) -> VideoWriter:
        self._writing = self._write()
        return self._writing.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._writing.__exit__(*error)

    @contextmanager
    def _write(self) -> Iterator[VideoWriter]:
        container = _CONTAINERS[self.path.suffix.lower()]
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
            self._file.mux(self._stream.encode())

    def add(self, picture: np.ndarray) -> None:
        """Appends an (H, W, 3) uint8 RGB picture of the first one's size."""
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(
                f"a picture must be (H, W, 3) uint8, got {picture.shape} {picture.dtype}"
            )
        height, width = (side - side % 2 for side in picture.shape[:2])
        if self._size is None:
            self._size = height, width
            self._stream.height, self._stream.width = height, width
        if (height, width) != self._size:
            raise ValueError(
                f"{self.path}: a picture of {(height, width)} pixels in a video of {self._size}"
            )
        pixels = np.ascontiguousarray(picture[:height, :width])
        self._file.mux(self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
