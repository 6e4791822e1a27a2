"""Small recordings of a rig of two cameras: videos and images."""

import struct
from fractions import Fraction

import av
import numpy as np
import torch

from fsdbev.structures import Rig

RIG = Rig(
    channels=("left", "right"),
    image_sizes=((64, 48),) * 2,
    intrinsics=torch.tensor([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]).repeat(2, 1, 1),
    cam2ego=torch.eye(4).repeat(2, 1, 1),
)


def write_video(path, levels, fps=10, ticks=None):
    """Writes a video of uniform grey pictures, or of arrays, at multiples (ticks) of 1 / fps."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for tick, level in zip(ticks or range(len(levels)), levels, strict=True):
            pixels = np.full((48, 64, 3), level, np.uint8)
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = tick, Fraction(1, fps)
            for packet in stream.encode(picture):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def write_drive(folder, **ticks):
    """Writes a video at 10 Hz for each camera, with 4 grey levels more per tick."""
    for name, of_camera in ticks.items():
        write_video(folder / f"{name}.mp4", [4 * tick for tick in of_camera], ticks=[*of_camera])
    return [f"{name}={folder / name}.mp4" for name in ticks]


def moving_pictures(count):
    """Returns pictures of coloured squares that move by 3 pixels from one to the next."""
    squares = np.random.default_rng(0).integers(0, 255, (12, 24, 3), np.uint8)
    wide = squares.repeat(4, axis=0).repeat(4, axis=1)
    return [wide[:, 3 * number : 3 * number + 64] for number in range(count)]


def overwrite(path, place, count=200):
    """Overwrites bytes of a file by zeros, from a place between 0 (its beginning) and 1 (end)."""
    content = bytearray(path.read_bytes())
    start = int(place * len(content))
    content[start : start + count] = bytes(count)
    path.write_bytes(content)


def show_as(path, matrix):
    """Writes a display matrix (a, b, c, d) into an MP4 file: x' = a x + c y, y' = b x + d y."""
    a, b, c, d = (round(65536 * value) for value in matrix)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def write_images(folder, left, right):
    """Writes empty images of these names; returns them as a folder and as patterns."""
    for camera, names in (("left", left), ("right", right)):
        (folder / camera).mkdir()
        for name in names:
            (folder / camera / f"{name}.png").touch()
    return [str(folder)], [f"{camera}={folder / camera}/*.png" for camera in RIG.channels]
