"""The video writer."""

import av
import numpy as np
import pytest

from fsdbev.visualization import VideoWriter


def read(path):
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
        return stream.codec_context.name, stream.average_rate, frames


def gray(level, height=64, width=96):
    return np.full((height, width, 3), level, np.uint8)


def test_a_video_is_h264_with_every_image_in_order(tmp_path):
    with VideoWriter(tmp_path / "deep" / "drive.mp4", fps=2.5) as video:
        for level in range(0, 250, 25):
            video.add(gray(level))
    codec, rate, frames = read(tmp_path / "deep" / "drive.mp4")
    assert (codec, rate) == ("h264", 2.5)
    assert np.allclose([frame.mean() for frame in frames], range(0, 250, 25), atol=3)
    with VideoWriter(tmp_path / "odd.mp4", fps=2) as video:  # H.264 needs even sizes
        video.add(gray(100, 65, 97))
    assert read(tmp_path / "odd.mp4")[2][0].shape == (64, 96, 3)


def stop_early(video):
    video.add(gray(1))
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "pictures, error",
    [
        (stop_early, KeyboardInterrupt),
        (lambda video: None, ValueError),
        (lambda video: (video.add(gray(1)), video.add(gray(1, 32))), ValueError),
        (lambda video: video.add(gray(1)[..., 0]), ValueError),
        (lambda video: video.add(gray(1) / 255), ValueError),
    ],
    ids=["interrupted", "no picture", "other size", "grey", "floats"],
)
def test_failures_keep_the_old_file(tmp_path, pictures, error):
    path = tmp_path / "drive.mp4"
    path.write_bytes(b"before")
    with pytest.raises(error), VideoWriter(path, fps=2) as video:
        pictures(video)
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["drive.mp4"]


@pytest.mark.parametrize("path, fps", [("drive.gif", 2), ("drive.mp4", 0), ("drive.mp4", -1)])
def test_unknown_formats_and_rates_are_errors(tmp_path, path, fps):
    with pytest.raises(ValueError, match=r"gif|fps"):
        VideoWriter(tmp_path / path, fps=fps)
