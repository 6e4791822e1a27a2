"""Bad images, read through a data set whose index has their sizes."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from bad_theme import Theme
from made_rows import SIZE, Rows, data_set, with_frame
from PIL import Image

from fsdbev.data.index.records import UNKNOWN_CRC
from fsdbev.data.io.image_file import read_image

THEME = Theme(
    "Images",
    "JPEG, PNG, WebP, BMP, PPM, TIFF and GIF are read, nothing else. The index, or the rig file, "
    "says their size. Only the checksum of an index finds all damage; decoding finds that of PNG "
    "files, much of that of JPEG files (with simplejpeg), and in other formats a missing end.",
)
_RED = (200, 10, 20)


def read(folder: Path, content: bytes | None, rows: Rows | None = None) -> np.ndarray:
    """Reads the first image of a data set, after writing this content."""
    dataset = data_set(folder, rows)
    frame = dataset.index[0]
    path = folder / frame.image_paths[0]
    path.parent.mkdir(exist_ok=True)
    if content is not None:
        path.write_bytes(content)
    return dataset.image(frame, 0)


def encoded(kind: str = "JPEG", mode: str = "RGB", size=SIZE, image=None, **options) -> bytes:
    file = io.BytesIO()
    picture = Image.new("RGB", size, _RED).convert(mode) if image is None else image
    picture.save(file, kind, **options)
    return file.getvalue()


def assert_red(pixels: np.ndarray, tolerance: int = 40) -> None:
    assert pixels.shape == (*SIZE[::-1], 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - _RED).max() <= tolerance


@THEME.refused("missing", "0_0.png: no such image; is the data root right?", FileNotFoundError)
def _(folder):
    read(folder, None)


DAMAGED = "0_0.png: can't be decoded (…); fetch it again"
JPEG, PNG = encoded(), encoded("PNG")
NOISE = encoded(image=Image.effect_noise(SIZE, 90).convert("RGB"))
for name, content in {
    "empty": b"",
    "JPEG, only its first bytes": JPEG[:3],
    "JPEG, cut in the header": JPEG[:100],
    "JPEG, cut in the middle": NOISE[:1200],
    "JPEG, its last two bytes missing": JPEG[:-2],
    "JPEG, its beginning missing": JPEG[20:],
    "PNG, cut in the middle": encoded("PNG", image=Image.effect_noise(SIZE, 90))[:900],
    "PNG with a wrong checksum": PNG[:-20] + bytes([PNG[-20] ^ 255]) + PNG[-19:],
    "zeros": bytes(5000),
    "a web page (an expired link)": b"<!DOCTYPE html><html><body>403 Forbidden</body>",
    "PostScript, for which Pillow would start Ghostscript": b"%!PS-Adobe-3.0 EPSF-3.0\n"
    b"%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n%%EOF",
}.items():
    THEME.refused(name, DAMAGED)(lambda folder, content=content: read(folder, content))


@THEME.refused(
    "JPEG with a hole of zeros, which Pillow reads (holes and lost parts that simplejpeg notices)",
    DAMAGED,
)
def _(folder):
    half = len(NOISE) // 2
    read(folder, NOISE[:half] + bytes(512) + NOISE[half + 512 :])


@THEME.refused("JPEG with bytes between its segments, which Pillow ignores", DAMAGED)
def _(folder):
    read(folder, JPEG[:20] + bytes(3) + JPEG[20:])


@THEME.refused("JPEG of a chroma sampling that libjpeg-turbo has no name for", DAMAGED)
def _(folder):
    place = JPEG.index(b"\xff\xc0") + 11
    read(folder, JPEG[:place] + b"\x31" + JPEG[place + 1 :])


@THEME.refused(
    "any changed byte of an image whose checksum is in the index",
    "0_0.png: its bytes have changed since …index.arrow was written; fetch it again, or, if the "
    "change is wanted, remove the index and make it again",
)
def _(folder):
    crcs = np.array([zlib.crc32(JPEG), UNKNOWN_CRC])
    read(folder, JPEG + b"\0", with_frame(0, image_crcs=crcs))


@THEME.handled(
    "bytes after the end of the image, without a checksum in the index", "read; they are ignored"
)
def _(folder):
    assert_red(read(folder, JPEG + bytes(range(99))))


@THEME.handled("grey, with or without transparency (L, LA)", "three equal channels")
def _(folder):
    for mode in ("L", "LA"):
        pixels = read(folder, encoded("PNG", mode))
        assert (pixels == pixels[..., :1]).all() and 50 < pixels.mean() < 90


@THEME.handled("CMYK JPEG", "converted to RGB as Pillow does")
def _(folder):
    assert_red(read(folder, encoded(mode="CMYK")))


@THEME.handled("PNG with a palette", "converted to RGB")
def _(folder):
    assert_red(read(folder, encoded("PNG", image=Image.new("RGB", SIZE, _RED).quantize(4))))


@THEME.handled("PNG with transparency (RGBA)", "the alpha channel is dropped")
def _(folder):
    assert_red(read(folder, encoded("PNG", image=Image.new("RGBA", SIZE, (*_RED, 0)))))


@THEME.handled("RGB PNG with 16 bits", "the upper 8 bits are used")
def _(folder):
    row = b"\0" + struct.pack(">3H", *(256 * c + 99 for c in _RED)) * SIZE[0]
    assert_red(read(folder, png(*SIZE, depth=16, data=row * SIZE[1])), 0)


@THEME.refused(
    "grey PNG with 16 bits, whose large values Pillow would clip",
    "0_0.png: can't be decoded (mode I;16: store it with 8 bits)",
)
def _(folder):
    read(folder, encoded("PNG", image=Image.fromarray(np.full(SIZE[::-1], 40_000, np.uint16))))


@THEME.handled("animated GIF or WebP", "the first frame is used")
def _(folder):
    others = [Image.new("RGB", SIZE, (0, 0, 250))]
    for kind in ("GIF", "WEBP"):
        assert_red(read(folder, encoded(kind, save_all=True, append_images=others)))


@THEME.handled("an EXIF orientation", "ignored, because the calibration is of the stored pixels")
def _(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    half = Image.new("RGB", SIZE)
    half.paste(_RED, (0, 0, SIZE[0], SIZE[1] // 2))
    pixels = read(folder, encoded(image=half, exif=exif))
    assert pixels.shape[:2] == SIZE[::-1] and pixels[0].mean() > 60 and pixels[-1].mean() < 9


@THEME.refused("another size", "0_0.png: size (30, 20) px differs from (64, 48) in the index;")
def _(folder):
    read(folder, encoded(size=(30, 20)))


def png(width: int, height: int, depth: int = 8, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">2I5B", width, height, depth, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def jpeg_that_claims(width: int, height: int) -> bytes:
    place = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:place] + struct.pack(">2H", height, width) + JPEG[place + 4 :]


@THEME.refused(
    "JPEG of one kilobyte whose header declares 60000 x 60000 pixels",
    "0_0.png: size (60000, 60000) px differs from (64, 48) in the index",
)
def _(folder):
    read(folder, jpeg_that_claims(60_000, 60_000))


@THEME.refused("PNG whose header declares 60000 x 60000 pixels", "0_0.png: …60000…")
def _(folder):
    read(folder, png(60_000, 60_000))


@THEME.refused(
    "the same JPEG without a known size", "x.jpg: its header declares 60000 x 60000 px; is it"
)
def _(folder):
    (folder / "x.jpg").write_bytes(jpeg_that_claims(60_000, 60_000))
    read_image(folder / "x.jpg")


def in_place_of_the_image(folder: Path, make) -> None:
    (folder / "images").mkdir()
    make(folder / "images" / "0_0.png")
    read(folder, None)


@THEME.refused("a folder", "0_0.png: is a folder, a file is needed")
def _(folder):
    in_place_of_the_image(folder, Path.mkdir)


@THEME.refused(
    "a named pipe, which would block the reader", "0_0.png: is a pipe or a device, a file"
)
def _(folder):
    in_place_of_the_image(folder, os.mkfifo)


@THEME.refused("a link to an infinite device", "0_0.png: is a pipe or a device, a file is needed")
def _(folder):
    in_place_of_the_image(folder, lambda path: path.symlink_to("/dev/zero"))


@THEME.refused("a link to itself", "Too many levels of symbolic links: …0_0.png", OSError)
def _(folder):
    in_place_of_the_image(folder, lambda path: path.symlink_to(path))


@THEME.refused("a file of a gigabyte", "0_0.png: 1073741824 bytes, far more than such a file has")
def _(folder):
    def make(path):
        with open(path, "wb") as file:
            file.truncate(1 << 30)

    in_place_of_the_image(folder, make)
