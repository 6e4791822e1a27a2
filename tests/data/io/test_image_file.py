"""Image files: the pixels are Pillow's, also where simplejpeg decodes; JPEG defects are refused."""

import io

import numpy as np
import PIL.ImageFile
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


@pytest.fixture
def pillow_count(monkeypatch):
    """Counts the files that Pillow opens for ``read``."""
    opened = []
    monkeypatch.setattr(
        image_file.ImageFile, "_open", lambda file: opened.append(file) or open_with_pillow(file)
    )
    return opened


open_with_pillow = image_file.ImageFile._open


@pytest.mark.parametrize("options", PLAIN, ids=str)
def test_plain_jpeg(read, options, pillow_count):
    for size in ((83, 61), (64, 48), (1, 1), (17, 2)):
        content = encoded(picture(*size), **options)
        assert_same(read(content), by_pillow(content))
    assert bool(pillow_count) == (simplejpeg is None)


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
def test_samplings(read, sampling, pillow_count):
    image = np.asarray(picture())
    content = simplejpeg.encode_jpeg(image, colorspace="RGB", colorsubsampling=sampling)
    assert_same(read(content), by_pillow(content))
    assert bool(pillow_count) == (sampling in ("440", "411"))


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
        found = read(bytes(changed))
        assert found is None or np.array_equal(found, by_pillow(bytes(changed)))


def without_a_part(content):
    """Returns the content without a quarter in the middle."""
    half = len(content) // 2
    return content[:half] + content[half * 3 // 2 :]


@needs_simplejpeg
@pytest.mark.parametrize("name", ["plain", "grey", "cmyk", "rgb encoded", "440", "411"])
def test_damage_that_pillow_ignores(read, name):
    if name.isdigit():
        pixels = np.asarray(picture())
        content = simplejpeg.encode_jpeg(pixels, colorspace="RGB", colorsubsampling=name)
    else:
        content = encoded(picture()) if name == "plain" else ODD[name]()
    damaged = without_a_part(content)
    assert not np.array_equal(by_pillow(damaged), by_pillow(content))
    assert read(damaged) is None


@needs_simplejpeg
def test_damage_of_a_header_that_pillow_ignores(read):
    content = encoded(picture())
    damaged = content[:20] + bytes(3) + content[20:]
    assert by_pillow(damaged) is not None and read(damaged) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF"])
def test_an_option_of_pillow_for_cut_files_is_not_used(read, kind, monkeypatch):
    monkeypatch.setattr(image_file, "simplejpeg", None)
    monkeypatch.setattr(PIL.ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = encoded(picture(), kind)
    assert read(content) is not None
    assert read(content[: len(content) * 2 // 3]) is None
    assert PIL.ImageFile.LOAD_TRUNCATED_IMAGES


def test_png_files_have_checksums(read):
    content = encoded(picture(), "PNG")
    assert read(without_a_part(content)) is None
    for place in range(100, len(content) - 20, 997):
        assert read(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]) is None


def test_without_simplejpeg(read, monkeypatch):
    content = encoded(picture())
    expected = read(content)
    monkeypatch.setattr(image_file, "simplejpeg", None)
    assert_same(read(content), expected)
    assert read(content[:200]) is None


@needs_simplejpeg
@pytest.mark.parametrize(
    "at_least, size",
    [((81, 61), (83, 61)), ((42, 31), (42, 31)), ((42, 32), (83, 61)), ((9, 8), (11, 8))],
)
def test_reduced_decoding(tmp_path, at_least, size):
    """The smallest of full, half, quarter and eighth size that suffices, with the same content."""
    smooth = picture().resize((6, 5)).resize((83, 61), Image.Resampling.BICUBIC)
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded(smooth, quality=98))
    found = image_file.ImageFile(path).decode(at_least)
    assert found.shape == (size[1], size[0], 3)
    expected = np.asarray(smooth.resize(size, Image.Resampling.BOX), np.float32)
    assert np.abs(found - expected).mean() < 6


def test_other_formats_are_not_reduced(tmp_path):
    picture().save(tmp_path / "image.png")
    assert image_file.ImageFile(tmp_path / "image.png").decode((8, 8)).shape == (61, 83, 3)
