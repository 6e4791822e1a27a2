"""Recordings as frames: videos, image files, folders and patterns."""

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
from made_recordings import (
    RIG,
    moving_pictures,
    overwrite,
    show_as,
    write_drive,
    write_images,
    write_video,
)
from PIL import Image

from fsdbev.data.io.recording import frames_from_images, frames_from_videos
from fsdbev.data.io.video_file import read_video
from fsdbev.inference.predictor import read_images


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


def test_a_frame_is_the_nearest_picture_within_half_a_step(tmp_path):
    ticks = [0, 4, 12, 16, 21, 29]
    path = write_video(tmp_path / "v.mp4", [8 * tick for tick in ticks], ticks=ticks)
    found = [(time, round(picture.mean() / 8)) for time, picture in read_video(path, 1)]
    assert found == [(0, 0), (1, 12), (2, 21)]


STORED = np.zeros((48, 64, 3), np.uint8)
STORED[:24, :32], STORED[:24, 32:] = 200, 100


@pytest.mark.parametrize(
    "matrix, shown",
    [
        ((0, 1, -1, 0), np.rot90(STORED, -1)),  # QuickTime's rotation of 90 degrees clockwise
        ((-1, 0, 0, -1), np.rot90(STORED, 2)),
        ((0, -1, 1, 0), np.rot90(STORED, 1)),
        ((-1, 0, 0, 1), STORED[:, ::-1]),
        ((0, 1, 1, 0), STORED.transpose(1, 0, 2)),
        ((0.9999, 0.01, -0.01, 0.9999), STORED),
    ],
)
def test_pictures_are_turned_as_players_do(tmp_path, matrix, shown):
    path = write_video(tmp_path / "v.mp4", [STORED])
    show_as(path, matrix)
    picture = next(read_video(path, 2))[1]
    assert picture.shape == shown.shape
    assert np.abs(picture.astype(int) - shown).mean() < 5


def test_the_size_in_the_rig_is_that_of_the_turned_pictures(tmp_path):
    videos = write_drive(tmp_path, left=range(3), right=range(3))
    show_as(tmp_path / "right.mp4", (0, 1, -1, 0))
    frame = next(frames_from_videos(videos, RIG, 2))
    with pytest.raises(ValueError, match="'right': 48 x 64 pixels, but the rig has 64 x 48"):
        read_images(frame.images, RIG)
    sizes = ((64, 48), (48, 64))
    assert read_images(frame.images, replace(RIG, image_sizes=sizes))[1].shape == (64, 48, 3)


@pytest.mark.parametrize("degrees", [5, 45, 135])
def test_other_angles_are_refused(tmp_path, degrees):
    path = write_video(tmp_path / "v.mp4", [50])
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    show_as(path, (cos, sin, -sin, cos))
    with pytest.raises(ValueError, match="v.mp4: players show the video turned by an angle"):
        next(read_video(path, 2))


def test_timestamps_that_go_back_are_an_error(tmp_path):
    path = write_video(tmp_path / "v.ts", [50] * 11)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ValueError, match=r"v.ts: its timestamps go back from .* to .* s; divide"):
        list(read_video(path, 2))


@pytest.mark.parametrize("place", [0.4, 0.5, 0.6])
def test_a_damaged_video_is_an_error(tmp_path, place):
    path = write_video(tmp_path / "v.mp4", moving_pictures(11))
    assert len(list(read_video(path, 2))) == 3
    overwrite(path, place)
    with pytest.raises(ValueError, match="v.mp4: .*; fetch (it|the file) again"):
        list(read_video(path, 2))


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


def levels_of(frames):
    """Grey levels of the frames' images in ticks of ``write_drive``, by name of the frame."""
    return {f.name: [round(image.mean() / 4) for image in f.images.values()] for f in frames}


def test_videos_are_paired_by_time(tmp_path, caplog):
    videos = write_drive(tmp_path, left=range(60), right=[*range(21), *range(40, 60)])
    frames = list(frames_from_videos(videos, RIG, 2))
    numbers = [0, 1, 2, 3, 4, 8, 9, 10, 11]
    assert levels_of(frames) == {f"{k:06d}": [5 * k, 5 * k] for k in numbers}
    assert [frame.seconds for frame in frames] == [k / 2 for k in numbers]
    assert "Skipped 3 of 12 frames" in caplog.text and "videos of right (3);" in caplog.text
    assert len(caplog.records) == 1


def test_each_camera_with_missing_pictures_is_counted(tmp_path, caplog):
    videos = write_drive(tmp_path, left=[0, 1, 4, 5, 8], right=[0, 2, 4, 6, 7, 8])
    assert [*levels_of(frames_from_videos(videos, RIG, 10))] == ["000000", "000004", "000008"]
    assert "Skipped 6 of 9 frames" in caplog.text and "left (4), right (3)" in caplog.text


def test_videos_that_start_at_different_times(tmp_path, caplog):
    videos = write_drive(tmp_path, left=range(40), right=range(13, 40))
    frames = levels_of(frames_from_videos(videos, RIG, 2))
    assert frames == {f"{k:06d}": [5 * k, 5 * k] for k in range(3, 8)}
    assert "timestamps begin at 0.00 s (left), 1.30 s (right)" in caplog.text
    assert "Skipped 3 of 8 frames" in caplog.text
    videos = write_drive(tmp_path, left=range(10), right=range(20, 30))
    with pytest.raises(ValueError, match=r"no frame has a picture of every .* 2.00 s \(right\)"):
        next(frames_from_videos(videos, RIG, 2))


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_rates_that_are_not_positive_are_refused(rate):
    for frames in (frames_from_images, frames_from_videos):
        with pytest.raises(ValueError, match="frame rate must be positive"):
            next(frames(["l", "r"], RIG, rate))


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


def test_numbers_in_names_are_sorted_by_value(tmp_path):
    left = [f"frame_{k}" for k in range(12)]
    for arguments in write_images(tmp_path, left, [f"{k:06d}" for k in range(12)]):
        pairs = [[p.stem for p in f.images.values()] for f in frames_from_images(arguments, RIG, 2)]
        assert pairs == [[f"frame_{k}", f"{k:06d}"] for k in range(12)]


def test_decimals_in_names_are_sorted_by_value(tmp_path):
    times = ["9.5", "10.15", "10.2", "100.0"]
    folder = write_images(tmp_path, times, times)[0]
    assert [f.images["left"].stem for f in frames_from_images(folder, RIG, 2)] == times


TIMES = [1_533_151_603_512_404 + 500_000 * k + 7_000 * (k % 3) for k in range(8)]


@pytest.mark.parametrize(
    "left, right, place",
    [
        (["f1", "f2", "f4"], ["f001", "f003", "f004"], 1),
        (["f1", "f2", "f3", "f5"], ["f1", "f3", "f4", "f5"], 1),
        (["f9", "f10"], ["f10", "f11"], 0),
        (["f1", "f2"], ["f1", "f3"], 1),
        (TIMES[:3] + TIMES[4:], [time + 33_000 for time in TIMES[:5] + TIMES[6:]], 3),
        (TIMES[:-1], [time + 33_000 for time in TIMES[1:]], 0),
    ],
)
def test_numbers_of_other_frames_are_an_error(tmp_path, left, right, place):
    folder = write_images(tmp_path, left, right)[0]
    message = f"left/{left[place]}.png and .*right/{right[place]}.png are not of the same frame"
    with pytest.raises(ValueError, match=message):
        next(frames_from_images(folder, RIG, 2))


@pytest.mark.parametrize(
    "left, right",
    [
        (TIMES, [time + 330_000 for time in TIMES]),  # cameras that fire in turn
        (TIMES, range(8)),
        (range(8), range(100, 108)),  # counters of two devices
        (["a", "b"], ["1", "2"]),
        ([f"12-00-0{k}" for k in range(8)], [f"11-59-{k:02d}" for k in range(8)]),
        ([f"{k}_{k % 3}" for k in range(8)], [f"{k}_{k % 2}" for k in range(8)]),
    ],
)
def test_numbers_that_do_not_contradict(tmp_path, left, right, caplog):
    assert len(list(frames_from_images(write_images(tmp_path, left, right)[0], RIG, 2))) == len(
        left
    )
    assert not caplog.records


def test_images_that_all_cameras_lack_are_a_warning(tmp_path, caplog):
    folder = write_images(tmp_path, ["0", "1", "2", "5", "6"], [0, 1, 2, 5, 6])[0]
    assert len(list(frames_from_images(folder, RIG, 2))) == 5
    assert "missing at 1 places, first between" in caplog.text and "left/2.png and" in caplog.text


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
