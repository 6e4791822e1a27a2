"""Recordings as frames: videos, image files, folders and patterns."""

import logging

import av
import numpy as np
import pytest
import torch
from PIL import Image

from fsdbev.data.io.recording import frames_from_images, frames_from_videos
from fsdbev.data.io.video_file import read_video
from fsdbev.structures import Rig

RIG = Rig(
    channels=("left", "right"),
    image_sizes=((64, 48),) * 2,
    intrinsics=torch.tensor([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]).repeat(2, 1, 1),
    cam2ego=torch.eye(4).repeat(2, 1, 1),
)


def write_video(path, levels, fps=10):
    """Writes a video of uniform grey pictures."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in levels:
            picture = np.full((48, 64, 3), level, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


@pytest.mark.parametrize(
    "rate, seconds", [(2, [0, 0.5, 1.0]), (10, np.arange(11) / 10), (100, np.arange(11) / 10)]
)
def test_a_video_is_read_at_the_requested_rate(tmp_path, rate, seconds):
    path = write_video(tmp_path / "v.mp4", range(0, 220, 20))
    times, pictures = zip(*read_video(path, rate), strict=True)
    assert np.allclose(times, seconds)
    levels = [picture.mean() for picture in pictures]
    assert np.allclose(levels, 200 * np.array(seconds), atol=3)
    assert pictures[0].shape == (48, 64, 3)


def test_rounding_to_pictures_does_not_accumulate(tmp_path):
    path = write_video(tmp_path / "v.mp4", range(61), fps=30)
    times = [time for time, _ in read_video(path, 7)]
    assert len(times) == 15
    assert np.abs(np.array(times) - np.arange(15) / 7).max() <= 1 / 30 + 1e-6


def test_files_that_are_no_videos_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.mp4: no such video"):
        next(read_video(tmp_path / "none.mp4", 2))
    (tmp_path / "text.mp4").write_text("not a video at all")
    with pytest.raises(ValueError, match="text.mp4: can't be decoded"):
        next(read_video(tmp_path / "text.mp4", 2))
    with pytest.raises(ValueError, match="must be positive"):
        next(read_video(tmp_path / "text.mp4", 0))


def test_a_video_without_times_is_an_error_with_a_remedy(tmp_path):
    path = write_video(tmp_path / "raw.h264", [10] * 5)
    with pytest.raises(ValueError, match="raw.h264: its frames have no timestamps.*mp4"):
        next(read_video(path, 2))


def test_frames_end_with_the_shortest_video(tmp_path, caplog):
    left = write_video(tmp_path / "l.mp4", [40] * 11)
    right = write_video(tmp_path / "r.mp4", [90] * 6)
    with caplog.at_level(logging.WARNING):
        frames = list(frames_from_videos([f"right={right}", f"left={left}"], RIG, 2))
    assert [(m.name, m.seconds) for m in frames] == [("000000", 0.0), ("000001", 0.5)]
    assert [*frames[0].images] == ["left", "right"]
    assert frames[0].images["right"].mean() == pytest.approx(90, abs=3)
    assert "video of right ended first" in caplog.text


def test_files_of_one_frame_by_name_or_in_order():
    by_name = list(frames_from_images(["right=r.jpg", "left=l.jpg"], RIG, 2))
    in_order = list(frames_from_images(["l.jpg", "r.jpg"], RIG, 2))
    assert by_name == in_order and len(by_name) == 1
    assert {name: str(path) for name, path in by_name[0].images.items()} == {
        "left": "l.jpg",
        "right": "r.jpg",
    }


@pytest.fixture
def folder(tmp_path):
    for name in RIG.channels:
        (tmp_path / name).mkdir()
        for number in (10, 2, 1):
            Image.new("RGB", (64, 48)).save(tmp_path / name / f"{number:03d}.png")
        (tmp_path / name / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_or_pattern_is_one_frame_per_image(folder):
    frames = list(frames_from_images([str(folder)], RIG, 4))
    assert [m.seconds for m in frames] == [0, 0.25, 0.5]
    assert [m.images["left"].name for m in frames] == ["001.png", "002.png", "010.png"]
    assert {path.parent.name for path in frames[0].images.values()} == {"left", "right"}
    patterns = [f"{name}={folder / name}/00*.png" for name in RIG.channels]
    frames = list(frames_from_images(patterns, RIG, 4))
    assert [m.images["right"].name for m in frames] == ["001.png", "002.png"]
    with pytest.raises(ValueError, match="'left': 2, 'right': 0"):
        next(frames_from_images([patterns[0], "right=none*.png"], RIG, 4))


def test_a_folder_that_lacks_images_is_named(folder):
    (folder / "right" / "002.png").unlink()
    with pytest.raises(ValueError, match="'left': 3, 'right': 2"):
        next(frames_from_images([str(folder)], RIG, 2))
    for path in (folder / "right").iterdir():
        path.unlink()
    (folder / "right").rmdir()
    with pytest.raises(FileNotFoundError, match="no folder 'right'"):
        next(frames_from_images([str(folder)], RIG, 2))


@pytest.mark.parametrize(
    "arguments",
    [["a.jpg"], ["a.jpg"] * 3, ["left=a.jpg"], ["left=a.jpg"] * 2, ["left=a.jpg", "b.jpg"]],
)
def test_too_few_or_too_many_files_are_an_error(arguments):
    with pytest.raises(ValueError, match="left, right"):
        next(frames_from_images(arguments, RIG, 2))
