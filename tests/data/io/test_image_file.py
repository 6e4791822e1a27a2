"""Image files: pixels and refusals equal Pillow's, also where simplejpeg decodes."""

import io

import numpy as np
import pytest
from PIL import Image

from fsdbev.data.io import image_file
from fsdbev.data.io.image_file import read_image

simplejpeg = image_file.simplejpeg
needs_simplejpeg = pytest.mark.skipif(simplejpeg is None, reason="simplejpeg is not installed")


def picture(width=83, height=61, mode="RGB", seed=0):
    """Noise over a gradient: strong colours, no two equal blocks."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 255, width)[None, :, None] * np.linspace(0, 1, height)[:, None, None]
    pixels = slope + rng.normal(0, 50, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_pillow(content):
    """Returns Pillow's pixels, or None if it cannot decode the content."""
    try:
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    except (OSError, SyntaxError):
        return None


@pytest.fixture
def read(tmp_path):
    """Returns the pixels of a file with this content, or None if it is refused."""

    def read(content):
        path = tmp_path / "image.jpg"
        path.write_bytes(content)
        try:
            return read_image(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: can't be decoded (")
            return None

    return read


def assert_same(found, expected):
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.uint8 and found.flags.writeable and found.flags.c_contiguous


PLAIN = [
    {"subsampling": subsampling, "quality": quality, **options}
    for subsampling in (0, 1, 2)
    for quality in (5, 80, 100)
    for options in ({}, {"progressive": True}, {"optimize": True, "restart_marker_rows": 1})
]


@pytest.mark.parametrize("options", PLAIN, ids=str)
def test_plain_jpeg(read, options):
    for size in ((83, 61), (64, 48), (1, 1), (17, 2)):
        content = encoded(picture(*size), **options)
        assert_same(read(content), by_pillow(content))
        assert (image_file._plain_jpeg_size(content) == size) == (simplejpeg is not None)


def with_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6  # a rotation, which is ignored
    return encoded(picture(), exif=exif)


ODD = {
    "grey": lambda: encoded(picture(mode="L")),
    "cmyk": lambda: encoded(picture(mode="CMYK")),
    "rgb encoded": lambda: encoded(picture(), keep_rgb=True),
    "png": lambda: encoded(picture(), "PNG"),
    "transparent png": lambda: encoded(picture(mode="RGBA"), "PNG"),
    "palette": lambda: encoded(picture(mode="P"), "PNG"),
    "orientation": with_orientation,
    "colour profile": lambda: encoded(picture(), icc_profile=bytes(300)),
    "trailing bytes": lambda: encoded(picture()) + bytes(range(40)),
    "no end marker": lambda: encoded(picture())[:-2],
    "empty": lambda: b"",
    "text": lambda: b"not an image at all",
    "only the start": lambda: b"\xff\xd8\xff",
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_other_files(read, content):
    assert_same(read(content()), by_pillow(content()))


@needs_simplejpeg
@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411"])
def test_samplings(read, sampling):
    image = np.asarray(picture())
    content = simplejpeg.encode_jpeg(image, colorspace="RGB", colorsubsampling=sampling)
    assert_same(read(content), by_pillow(content))
    is_quick = image_file._plain_jpeg_size(content) is not None
    assert is_quick == (sampling in ("444", "422", "420"))


@pytest.mark.parametrize("seed", range(6))
def test_damaged_files(read, seed):
    rng = np.random.default_rng(seed)
    options = PLAIN[rng.integers(len(PLAIN))]
    content = encoded(picture(seed=seed), **options)
    for _ in range(10):
        cut = content[: rng.integers(len(content))]
        assert_same(read(cut), by_pillow(cut))
        changed = bytearray(content)
        for place in rng.integers(len(content), size=3):
            changed[place] = rng.integers(256)
        assert_same(read(bytes(changed)), by_pillow(bytes(changed)))


def test_without_simplejpeg(read, monkeypatch):
    content = encoded(picture())
    expected = read(content)
    monkeypatch.setattr(image_file, "simplejpeg", None)
    assert_same(read(content), expected)
    assert read(content[:200]) is None
