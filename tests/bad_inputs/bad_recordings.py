"""Bad recordings of a rig, read as frames by tools/demo.py."""

from __future__ import annotations

import math
from pathlib import Path

from bad_theme import Theme
from made_recordings import (
    RIG,
    moving_pictures,
    overwrite,
    show_as,
    write_drive,
    write_images,
    write_video,
)

from fsdbev.data.io.recording import RecordedFrame, frames_from_images, frames_from_videos
from fsdbev.data.io.video_file import read_video

THEME = Theme(
    "Recordings",
    "Videos and image files of tools/demo.py, see [Your own cameras](own_cameras.md). Skipped "
    "frames are counted in a warning.",
)


def videos(folder: Path, left, right, rate: float = 2) -> list[RecordedFrame]:
    """Reads two videos at 10 Hz with pictures at these ticks."""
    return list(frames_from_videos(write_drive(folder, left=left, right=right), RIG, rate))


def images(folder: Path, left, right, rate: float = 2) -> list[RecordedFrame]:
    """Reads two folders with images of these names."""
    return list(frames_from_images(write_images(folder, left, right)[0], RIG, rate))


def turned(folder: Path, *matrix: float):
    path = write_video(folder / "v.mp4", [50])
    show_as(path, matrix)
    return next(read_video(path, 2))[1]


@THEME.handled("pictures missing in a video", "their frames are skipped; the later ones keep step")
def _(folder):
    frames = videos(folder, range(60), [*range(21), *range(40, 60)])
    assert [frame.seconds for frame in frames] == [0, 0.5, 1, 1.5, 2, 4, 4.5, 5, 5.5]


@THEME.handled(
    "a video that starts later by its timestamps", "the frames before are skipped, with a warning"
)
def _(folder):
    assert [frame.seconds for frame in videos(folder, range(20), range(10, 20))] == [1, 1.5]


@THEME.refused(
    "videos without a common time",
    "no frame has a picture of every camera within 0.25 s of its time; the videos' timestamps "
    "begin at 0.00 s (left), 2.00 s (right); if the cameras started together, write them from 0 (",
)
def _(folder):
    videos(folder, range(10), range(20, 30))


@THEME.refused(
    "a video whose timestamps start again",
    "v.ts: its timestamps go back from … to … s; divide the video there",
)
def _(folder):
    path = write_video(folder / "v.ts", [50] * 11)
    path.write_bytes(path.read_bytes() * 2)
    list(read_video(path, 2))


@THEME.refused("a video without timestamps", "raw.h264: its frames have no timestamps, as in a raw")
def _(folder):
    next(read_video(write_video(folder / "raw.h264", [10] * 5), 2))


@THEME.refused("a missing video", "none.mp4: no such video", FileNotFoundError)
def _(folder):
    next(read_video(folder / "none.mp4", 2))


@THEME.refused("a file that is not a video", "text.mp4: can't be decoded as a video (…)")
def _(folder):
    (folder / "text.mp4").write_text("not a video at all")
    next(read_video(folder / "text.mp4", 2))


@THEME.refused(
    "a damaged video, as far as FFmpeg notices (a hole in H.264 or Motion JPEG)",
    "v.mp4: …fetch …again",
)
def _(folder):
    path = write_video(folder / "v.mp4", moving_pictures(11))
    overwrite(path, 0.5)
    list(read_video(path, 2))


@THEME.handled("a video that players turn by 90, 180 or 270 degrees, or mirror", "turned likewise")
def _(folder):
    assert turned(folder, 0, 1, -1, 0).shape == (64, 48, 3)


@THEME.refused(
    "a video that players turn by another angle",
    "v.mp4: players show the video turned by an angle that is not a multiple of 90 degrees; write",
)
def _(folder):
    turned(folder, *[math.sqrt(0.5) * sign for sign in (1, 1, -1, 1)])


@THEME.refused("a rate of 0", "the frame rate must be positive and finite, got 0")
def _(folder):
    images(folder, "a", "b", rate=0)


@THEME.handled("numbers of images without zeros in front", "sorted by value: 2 before 10")
def _(folder):
    frames = images(folder, range(12), range(12))
    assert [int(frame.images["left"].stem) for frame in frames] == [*range(12)]


@THEME.refused("more images of one camera", "the same number of images, got {'left': 2, 'right': 1")
def _(folder):
    images(folder, "12", "1")


@THEME.refused(
    "another image missing for each camera",
    "by their numbers …left/2.png and …right/3.png are not of the same frame, but both are number",
)
def _(folder):
    images(folder, "1245", "1345")


@THEME.handled("the same images missing for all cameras", "used, with a warning")
def _(folder):
    assert len(images(folder, "1267", "1267")) == 4
