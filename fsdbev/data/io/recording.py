"""Recordings of a rig as a sequence of frames, read from image files or videos."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fsdbev.structures import Rig

from .video_file import read_video

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class RecordedFrame:
    """One image of every camera, taken at about the same time.

    Attributes:
        name: plain file name; names sort in the order of time.
        seconds: time since the first frame, seconds.
        images: images by camera name: files, or (height, width, 3) uint8 RGB arrays.
    """

    name: str
    seconds: float
    images: dict[str, Path | NDArray[np.uint8]]


def frames_from_images(arguments: Sequence[str], rig: Rig, rate: float) -> Iterator[RecordedFrame]:
    """Yields frames from image files.

    Args:
        arguments: the images of every camera, as ``camera=images`` or in the rig's order, where
            images is a file or a pattern such as ``drive/*.jpg``; or one folder with a subfolder of
            images for every camera. Frame k has each camera's k-th image in order of names.
        rig: the cameras.
        rate: frames per second, from which the frames' times are computed.

    Raises:
        FileNotFoundError, ValueError: a camera is missing or unknown, or the cameras have different
            numbers of images or none.
    """
    if len(arguments) == 1 and Path(arguments[0]).is_dir():
        files = _files_of_folder(Path(arguments[0]), rig)
    else:
        images = _by_camera(arguments, rig, "images")
        files = {name: _files_of_pattern(pattern) for name, pattern in images.items()}
    counts = {name: len(images) for name, images in files.items()}
    if len(set(counts.values())) > 1 or not min(counts.values()):
        raise ValueError(f"every camera needs the same number of images, got {counts}")
    for k in range(min(counts.values())):
        yield RecordedFrame(
            f"{k:06d}", k / rate, {name: images[k] for name, images in files.items()}
        )


def frames_from_videos(arguments: Sequence[str], rig: Rig, rate: float) -> Iterator[RecordedFrame]:
    """Yields frames from videos until the shortest video ends.

    Args:
        arguments: one video per camera, as ``camera=file`` or in the rig's order. All videos must
            start at the same time.
        rig: the cameras.
        rate: frames per second to read, see :func:`read_video`.

    Raises:
        FileNotFoundError, ValueError: a camera or a video is missing, or a video can't be decoded.
    """
    files = _by_camera(arguments, rig, "videos")
    with ExitStack() as stack:
        videos = {n: stack.enter_context(closing(read_video(f, rate))) for n, f in files.items()}
        count = 0
        while True:
            timed_images = {name: next(video, None) for name, video in videos.items()}
            ended = [name for name, timed in timed_images.items() if timed is None]
            if ended:
                break
            # All videos are read at the same rate, so that any camera's time serves as the frame's.
            seconds = next(iter(timed_images.values()))[0]
            images = {name: image for name, (_, image) in timed_images.items()}
            yield RecordedFrame(f"{count:06d}", seconds, images)
            count += 1
        if len(ended) < len(videos):
            logger.warning("After %d frames the video of %s ended first", count, ", ".join(ended))


def _files_of_folder(folder: Path, rig: Rig) -> dict[str, list[Path]]:
    files = {}
    for name in rig.channels:
        if not (folder / name).is_dir():
            raise FileNotFoundError(
                f"{folder} has no folder {name!r}; it must have one for every camera of the rig: "
                f"{', '.join(rig.channels)}"
            )
        images = (f for f in (folder / name).iterdir() if f.suffix.lower() in IMAGE_ENDINGS)
        files[name] = sorted(images)
    return files


def _files_of_pattern(pattern: str) -> list[Path]:
    """Returns the sorted files that match a pattern; a plain name is returned without a check."""
    # An existing file may have characters of a pattern in its name.
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [Path(pattern)]
    return sorted(map(Path, glob.glob(pattern)))


def _by_camera(arguments: Sequence[str], rig: Rig, kind: str) -> dict[str, str]:
    """Assigns ``camera=value`` arguments, or values in order, to the cameras in the rig's order."""
    pairs = [text.partition("=")[::2] for text in arguments]
    names = [name for name, _ in pairs]
    if set(names) & set(rig.channels):
        if sorted(names) != sorted(rig.channels):
            raise ValueError(
                f"{kind} must be given once for each camera of the rig, "
                f"{', '.join(rig.channels)}; got {', '.join(arguments)}"
            )
        return {name: dict(pairs)[name] for name in rig.channels}
    if len(arguments) != rig.num_cameras:
        raise ValueError(
            f"{len(arguments)} {kind}, but the rig has {rig.num_cameras} cameras: "
            f"{', '.join(rig.channels)}"
        )
    return dict(zip(rig.channels, arguments, strict=True))
