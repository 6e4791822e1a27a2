"""Reads frames of a video at a constant rate with PyAV."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

#: Tolerance for rounding in times and rotations, as a share of a step and of the sine.
_ROUNDING, _TILT = 1e-6, 0.02


def read_video(
    path: str | os.PathLike, rate: float, start: float | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yields frames of the first video stream, at most ``rate`` per second.

    Frame k is the picture nearest to k / rate seconds after the start. A frame without a picture
    within half of 1 / rate is left out. No picture is in two frames, and no frame is later than the
    last picture. Pictures are turned and mirrored as players do.

    Args:
        path: path of the video.
        rate: frames per second.
        start: timestamp of frame 0, seconds; by default that of the first picture.

    Yields:
        Time k / rate of the frame in seconds, and the (height, width, 3) uint8 RGB image.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is no video, has no pictures or no timestamps, can't be decoded, has
            timestamps that go back, or is to be shown at an angle that is not a multiple of 90
            degrees; or ``rate`` is not positive.
    """
    check_rate(rate)
    path = Path(path)
    start = first_timestamp(path) if start is None else start
    held, latest = None, -math.inf
    for picture in _pictures(path):
        steps = (picture.time - start) * rate
        if steps < latest - 1 - _ROUNDING:
            raise ValueError(
                f"{path}: its timestamps go back from {start + latest / rate:.3f} to "
                f"{picture.time:.3f} s; divide the video there"
            )
        latest = max(latest, steps)
        # A picture in the middle between two frames is of the earlier one.
        number = math.ceil(steps - 0.5 - _ROUNDING)
        if held is not None and number > held[0]:
            yield held[0] / rate, _upright(path, held[2])
            held = None
        distance = abs(steps - number)
        if held is None or (number == held[0] and distance < held[1]):
            held = number, distance, picture
    if held is not None and held[0] <= latest + _ROUNDING:
        yield held[0] / rate, _upright(path, held[2])


def check_rate(rate: float) -> None:
    """Raises a ValueError if frames per second are not a positive, finite number."""
    if not 0 < rate < math.inf:
        raise ValueError(f"the frame rate must be positive and finite, got {rate}")


def first_timestamp(path: Path) -> float:
    """Returns the timestamp of a video's first picture, seconds. Errors as in read_video."""
    for picture in _pictures(path):
        return picture.time
    raise ValueError(f"{path}: the video has no pictures")


def _pictures(path: Path) -> Iterator[av.VideoFrame]:
    """Yields the pictures of the first video stream, all with a timestamp."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such video")
    try:
        with av.open(str(path)) as file:
            if not file.streams.video:
                raise ValueError(f"{path}: the file has no video stream")
            stream = file.streams.video[0]
            # FFmpeg conceals damage by default; its H.264 decoder also does so with this option if
            # it has several threads.
            stream.codec_context.options = {"err_detect": "explode"}
            stream.thread_type = "NONE"
            for picture in file.decode(stream):
                if picture.is_corrupt:
                    raise ValueError(
                        f"{path}: the picture at {picture.time} s is damaged; fetch the file again"
                    )
                if picture.time is None:
                    raise ValueError(
                        f"{path}: its frames have no timestamps, as in a raw stream; put it into a "
                        "container (ffmpeg -framerate HZ -i FILE -c copy FILE.mp4)"
                    )
                yield picture
    except av.FFmpegError as error:
        raise ValueError(
            f"{path}: can't be decoded as a video ({error}); fetch it again"
        ) from error


def _upright(path: Path, picture: av.VideoFrame) -> NDArray[np.uint8]:
    """Returns the RGB image of a picture, turned and mirrored by its display matrix."""
    image = picture.to_ndarray(format="rgb24")
    matrix = picture.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # [x', y'] = [x, y] @ turn, for x to the right and y down.
    turn = np.frombuffer(bytes(matrix), np.int32).reshape(3, 3)[:2, :2].astype(float)
    turn /= max(1, np.abs(turn).max())
    exact = np.round(turn)
    if np.abs(turn - exact).max() > _TILT or not np.array_equal(exact @ exact.T, np.eye(2)):
        raise ValueError(
            f"{path}: players show the video turned by an angle that is not a multiple of 90 "
            "degrees; write it upright (ffmpeg -i FILE FILE.mp4)"
        )
    if exact[0, 0] == 0:
        image = image.transpose(1, 0, 2)
    right, down = exact.sum(axis=0).astype(int)
    return np.ascontiguousarray(image[::down, ::right])
