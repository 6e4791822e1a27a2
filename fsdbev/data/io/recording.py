"""What a rig's cameras saw, moment by moment, from image files or videos."""

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
    """One picture of every camera, taken at about the same time.

    Attributes:
        name: a plain file name, in the order of time.
        seconds: since the first moment.
        images: by camera name: files, or (height, width, 3) uint8 RGB arrays.
    """

    name: str
    seconds: float
    images: dict[str, Path | NDArray[np.uint8]]


def frames_from_images(arguments: Sequence[str], rig: Rig, rate: float) -> Iterator[RecordedFrame]:
    """Moments ``1 / rate`` seconds apart.

    Args:
        arguments: for every camera its images, as ``camera=images`` or in the rig's order, where
            images is a file or a pattern such as ``drive/*.jpg``; or one folder that holds a folder
            of images for every camera, by its name. The k-th by name are moment k.

    Raises:
        FileNotFoundError, ValueError: a camera or an image is missing, or there are too many.
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
    """Moments ``1 / rate`` seconds apart, until the first of the videos ends.

    Args:
        arguments: a video for every camera, as ``camera=file`` or in the rig's order; all begin at
            the same time.

    Raises:
        FileNotFoundError, ValueError: a video is missing or can't be decoded.
    """
    files = _by_camera(arguments, rig, "videos")
    with ExitStack() as stack:
        videos = {n: stack.enter_context(closing(read_video(f, rate))) for n, f in files.items()}
        count = 0
        while True:
            pictures = {name: next(video, None) for name, video in videos.items()}
            ended = [name for name, picture in pictures.items() if picture is None]
            if ended:
                break
            seconds = next(iter(pictures.values()))[0]
            yield RecordedFrame(
                f"{count:06d}", seconds, {name: p for name, (_, p) in pictures.items()}
            )
            count += 1
        if len(ended) < len(videos):
            logger.warning("After %d moments the video of %s ended first", count, ", ".join(ended))


def _files_of_folder(folder: Path, rig: Rig) -> dict[str, list[Path]]:
    files = {}
    for name in rig.channels:
        if not (folder / name).is_dir():
            raise FileNotFoundError(
                f"{folder} has no folder {name!r}; it needs one for every camera of the rig: "
                f"{', '.join(rig.channels)}"
            )
        images = (f for f in (folder / name).iterdir() if f.suffix.lower() in IMAGE_ENDINGS)
        files[name] = sorted(images)
    return files


def _files_of_pattern(pattern: str) -> list[Path]:
    """A file by its name, whether it is there or not; else the files that fit."""
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [Path(pattern)]
    return sorted(map(Path, glob.glob(pattern)))


def _by_camera(arguments: Sequence[str], rig: Rig, what: str) -> dict[str, str]:
    """``camera=value`` or values in order -> the value of every camera, in the rig's order."""
    pairs = [text.partition("=")[::2] for text in arguments]
    names = [name for name, _ in pairs]
    if set(names) & set(rig.channels):
        if sorted(names) != sorted(rig.channels):
            raise ValueError(
                f"{what} of {', '.join(arguments)}; the rig has {', '.join(rig.channels)}"
            )
        return {name: dict(pairs)[name] for name in rig.channels}
    if len(arguments) != rig.num_cameras:
        raise ValueError(
            f"{len(arguments)} {what}, but the rig has {rig.num_cameras} cameras: "
            f"{', '.join(rig.channels)}"
        )
    return dict(zip(rig.channels, arguments, strict=True))
