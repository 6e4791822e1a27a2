"""Recordings of a rig as a sequence of frames, read from image files or videos."""

from __future__ import annotations

import glob
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fsdbev.structures import Rig

from .video_file import check_rate, first_timestamp, read_video

logger = logging.getLogger(__name__)

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class RecordedFrame:
    """One image of every camera, taken at about the same time.

    Attributes:
        name: number k of the frame in six digits, from 0; numbers of skipped frames are missing.
        seconds: time k / rate since the start, seconds.
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
            images for every camera. Frame k has each camera's k-th image in natural order of names:
            ``2.png`` before ``10.png``.
        rig: the cameras.
        rate: frames per second, from which the frames' times are computed.

    Raises:
        FileNotFoundError, ValueError: a camera is missing or unknown, the cameras have different
            numbers of images or none, images of a frame are not of the same frame by the numbers in
            their names, or ``rate`` is not positive.
    """
    check_rate(rate)
    if len(arguments) == 1 and Path(arguments[0]).is_dir():
        files = _files_of_folder(Path(arguments[0]), rig)
    else:
        images = _by_camera(arguments, rig, "images")
        files = {name: _files_of_pattern(pattern) for name, pattern in images.items()}
    counts = {name: len(images) for name, images in files.items()}
    if len(set(counts.values())) > 1 or not min(counts.values()):
        raise ValueError(f"every camera needs the same number of images, got {counts}")
    _check_numbers(files)
    for k in range(min(counts.values())):
        yield RecordedFrame(
            f"{k:06d}", k / rate, {name: images[k] for name, images in files.items()}
        )


def frames_from_videos(arguments: Sequence[str], rig: Rig, rate: float) -> Iterator[RecordedFrame]:
    """Yields frames from videos until the shortest video ends.

    Frame k has the picture of each video nearest to k / rate. A frame for which a video has no
    picture within half of 1 / rate is skipped; a warning at the end counts skipped frames.

    Args:
        arguments: one video per camera, as ``camera=file`` or in the rig's order. Their timestamps
            must be of one clock. Time 0 is that of the earliest picture.
        rig: the cameras.
        rate: frames per second to read, see :func:`read_video`.

    Raises:
        FileNotFoundError, ValueError: a camera or a video is missing, a video can't be decoded, or
            all frames are skipped.
    """
    check_rate(rate)
    files = _by_camera(arguments, rig, "videos")
    starts = {name: first_timestamp(Path(file)) for name, file in files.items()}
    start = min(starts.values())
    half_step = 0.5 / rate
    clocks = (
        "the videos' timestamps begin at "
        f"{', '.join(f'{first:.2f} s ({name})' for name, first in starts.items())}; if the cameras "
        "started together, write them from 0 (ffmpeg -i FILE -c copy FILE.mp4)"
    )
    if max(starts.values()) - start > half_step:
        logger.warning("The videos are paired by time: %s", clocks)
    with ExitStack() as stack:
        videos = {
            name: stack.enter_context(closing(read_video(file, rate, start)))
            for name, file in files.items()
        }
        heads = {name: next(video, None) for name, video in videos.items()}
        count, number, lacking = 0, 0, Counter()
        while None not in heads.values():
            seconds = min(time for time, _ in heads.values())
            images = {name: image for name, (time, image) in heads.items() if time == seconds}
            k = round(seconds * rate)
            # No camera has a picture for the frames from ``number`` to k - 1.
            lacking.update({name: k - number + (name not in images) for name in heads})
            number = k + 1
            if len(images) == len(heads):
                yield RecordedFrame(f"{k:06d}", seconds, images)
                count += 1
            heads |= {name: next(videos[name], None) for name in images}
    if not count:
        raise ValueError(
            f"no frame has a picture of every camera within {half_step:g} s of its time; {clocks}"
        )
    if count < number:
        logger.warning(
            "Skipped %d of %d frames: no picture within %g s of their time in the videos of %s; a "
            "lower rate skips fewer",
            number - count,
            number,
            half_step,
            ", ".join(f"{name} ({frames})" for name, frames in lacking.items() if frames),
        )
    ended = [name for name, head in heads.items() if head is None]
    if len(ended) < len(videos):
        logger.warning("At frame %d the video of %s ended first", number, ", ".join(ended))


def _check_numbers(files: Mapping[str, Sequence[Path]]) -> None:
    """Raises a ValueError if the numbers in the names of images differ as if one were missing.

    Frame numbers and timestamps are compared: names in which a single number changes, and grows in
    steps of about the same size for both cameras. Their difference may be any constant, but less
    than a step where the numbers of both cameras overlap. A gap is a warning.
    """
    numbers = {name: _rising_number(images) for name, images in files.items()}
    comparable = [name for name, rising in numbers.items() if rising is not None]
    if not comparable:
        return
    first, *others = comparable
    a, step = numbers[first], np.median(np.diff(numbers[first]))
    for name in others:
        b = numbers[name]
        if not 0.5 <= step / np.median(np.diff(b)) <= 2:
            continue
        offset = b - a
        if abs(offset[0]) < step or a[0] > b[-1] or b[0] > a[-1]:
            offset -= offset[0]
        k = int(np.argmax(np.abs(offset) > step / 2))
        if abs(offset[k]) > step / 2:
            raise ValueError(
                f"by their numbers {files[first][k]} and {files[name][k]} are not of the same "
                f"frame, but both are number {k} in order of names. Remove images whose frame is "
                "not complete; or, if these belong together, give both the same number"
            )
    gaps = np.flatnonzero(np.diff(a) > 1.5 * step)
    if len(gaps):
        logger.warning(
            "By their numbers images are missing at %d places, first between %s and %s, but all "
            "frames are taken to be equally far apart in time",
            len(gaps),
            *files[first][gaps[0] : gaps[0] + 2],
        )


def _rising_number(files: Sequence[Path]) -> NDArray[np.float64] | None:
    """Returns the number that grows from name to name; None if others change or it falls."""
    keys = [_natural_key(file.stem)[0] for file in files]
    if len(keys) < 2 or len(set(map(len, keys))) > 1:
        return None
    values = np.array([[float(f"{n}{d}") for n, d in zip(k[1::3], k[2::3])] for k in keys])
    changing = values[:, (values != values[0]).any(axis=0)]
    rising = changing.shape[1] == 1 and (np.diff(changing, axis=0) > 0).all()
    return changing[:, 0] if rising else None


def _natural_key(path: str | Path) -> tuple[list, str]:
    """Returns a key that sorts numbers by value: 2 before 10, 1.25 before 1.5."""
    # Text, digits, decimals, text, digits, ...
    parts = re.split(r"(\d+)((?:\.\d+)?)", str(path))
    return [int(p) if i % 3 == 1 else p for i, p in enumerate(parts)], str(path)


def _files_of_folder(folder: Path, rig: Rig) -> dict[str, list[Path]]:
    files = {}
    for name in rig.channels:
        if not (folder / name).is_dir():
            raise FileNotFoundError(
                f"{folder} has no folder {name!r}; it must have one for every camera of the rig: "
                f"{', '.join(rig.channels)}"
            )
        images = (f for f in (folder / name).iterdir() if f.suffix.lower() in IMAGE_ENDINGS)
        files[name] = sorted(images, key=_natural_key)
    return files


def _files_of_pattern(pattern: str) -> list[Path]:
    """Returns the files that match a pattern, in order; a plain name is returned unchecked."""
    # An existing file may have characters of a pattern in its name.
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [Path(pattern)]
    return sorted(map(Path, glob.glob(pattern)), key=_natural_key)


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
