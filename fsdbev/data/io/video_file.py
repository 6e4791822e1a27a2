"""Reads frames of a video at a constant rate with PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def read_video(path: str | os.PathLike, rate: float) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yields frames of the first video stream, at most ``rate`` per second.

    For each multiple of 1 / rate seconds it yields the first frame at or after that time and skips
    the frames in between.

    Args:
        path: path of the video.
        rate: frames per second.

    Yields:
        Time since the first frame in seconds, and the (height, width, 3) uint8 RGB image.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is no video, has no video stream or no timestamps, or can't be decoded;
            or ``rate`` is not positive.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video")
    if not rate > 0:
        raise ValueError(f"the frame rate must be positive, got {rate}")
    try:
        with av.open(str(path)) as file:
            if not file.streams.video:
                raise ValueError(f"{path}: the file has no video stream")
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
                f"{path}: its frames have no timestamps, as in a raw stream; put it into a "
                "container (ffmpeg -framerate HZ -i FILE -c copy FILE.mp4)"
            )
        # The timestamps of a stream need not start at 0.
        start = frame.time if start is None else start
        seconds = frame.time - start
        # A microsecond of tolerance for rounding in the times.
        if seconds >= due - 1e-6:
            yield seconds, frame.to_ndarray(format="rgb24")
            # A multiple of 1 / rate and not ``seconds + 1 / rate``, so that delays do not add up.
            due = (np.floor(seconds * rate + 1e-6) + 1) / rate
