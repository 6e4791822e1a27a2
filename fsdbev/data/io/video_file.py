"""Videos of cameras as pictures at a steady rate, read by PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def read_video(path: str | os.PathLike, rate: float) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Pictures of the first video stream, ``rate`` a second: at each multiple of 1 / rate the first
    one that is not earlier; what lies between is skipped.

    Yields:
        seconds since the first picture; (height, width, 3) RGB.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no video, has no pictures, or can't be decoded.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video")
    if not rate > 0:
        raise ValueError(f"the rate of pictures must be positive, got {rate}")
    try:
        with av.open(str(path)) as file:
            if not file.streams.video:
                raise ValueError(f"{path}: it has no video stream")
            yield from _at_rate(path, file.decode(video=0), rate)
    except av.FFmpegError as error:
        raise ValueError(f"{path}: can't be decoded as a video ({error})") from error


def _at_rate(
    path: Path, frames: Iterator[av.VideoFrame], rate: float
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    start, due = None, 0.0
    for frame in frames:
        if frame.time is None:
            raise ValueError(
                f"{path}: its pictures have no times, as in a raw stream; put it into a container "
                "(ffmpeg -framerate HZ -i FILE -c copy FILE.mp4)"
            )
        start = frame.time if start is None else start
        seconds = frame.time - start
        if seconds >= due - 1e-6:
            yield seconds, frame.to_ndarray(format="rgb24")
            due = (np.floor(seconds * rate + 1e-6) + 1) / rate
