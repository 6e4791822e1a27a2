"""resample_image, not exact: within a grey level of Pillow, and the same on every machine."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fsdbev.layers import EXTENSION_BUILT, resample_image

pytestmark = pytest.mark.skipif(not EXTENSION_BUILT, reason="compiled operators not built")

BITS, BETWEEN = 14, 7


def noise(width, height, seed, levels=256):
    rng = np.random.default_rng(seed)
    values = rng.integers(levels, size=(height, width, 3)) * (255 // (levels - 1))
    return torch.from_numpy(values.astype(np.uint8))


def smooth(width, height, seed):
    """Waves, and an edge across them."""
    y, x = np.mgrid[:height, :width][..., None] / max(width, height)
    phase = np.arange(3) + seed
    values = 127 + 70 * np.sin(9 * x + 4 * y + phase) + 50 * np.cos(23 * y - 15 * x * x + phase)
    values += 60 * (x + 0.3 * y > 0.6)
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))


def difference(image, **arguments):
    """Of both modes, at most."""
    exact, coarse = (resample_image(image, **arguments, exact=e).short() for e in (True, False))
    return (exact - coarse).abs().max().item() if exact.numel() else 0


def weights(size, resized):
    """(resized, size) integers, by the definition: rounded, the largest takes what is lost."""
    scale = size / resized
    width = max(scale, 1.0)
    result = np.zeros((resized, size), np.int64)
    for row, centre in zip(result, (np.arange(resized) + 0.5) * scale):
        begin = max(int(centre - 2 * width + 0.5), 0)
        x = np.abs(np.arange(begin, min(int(centre + 2 * width + 0.5), size)) - centre + 0.5)
        x *= 1 / width
        near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
        values = np.where(x < 1, near, np.where(x < 2, far, 0))
        values = values / sum(values.tolist()) * 2**BITS
        found = (np.sign(values) * np.floor(np.abs(values) + 0.5)).astype(np.int64)
        found[values.argmax()] += 2**BITS - found.sum()
        row[begin : begin + len(found)] = found
    return result


def defined(image, resized):
    """The result in whole numbers, columns first."""
    values = np.einsum(
        "yxc,Xx->yXc", image.numpy().astype(np.int64), weights(image.shape[1], resized[0])
    )
    values = ((values + 2 ** (BITS - BETWEEN - 1)) >> (BITS - BETWEEN)).clip(0, 255 << BETWEEN)
    values = np.einsum("yXc,Yy->cYX", values, weights(image.shape[0], resized[1]))
    return ((values + 2 ** (BITS + BETWEEN - 1)) >> (BITS + BETWEEN)).clip(0, 255)


SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))


@settings(max_examples=100, deadline=None)
@given(
    source=SIZES,
    resized=SIZES,
    crop=st.tuples(st.integers(-30, 60), st.integers(-30, 60)),
    output=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    flip=st.booleans(),
    rotation=st.one_of(st.just(0.0), st.floats(-6, 6), st.floats(-400, 400)),
    make=st.sampled_from([smooth, noise, lambda *size_and_seed: noise(*size_and_seed, levels=2)]),
    seed=st.integers(0, 1000),
)
def test_within_a_grey_level(source, resized, crop, output, flip, rotation, make, seed):
    arguments = {"resized": resized, "crop": crop, "output": output}
    arguments |= {"flip": flip, "rotation": rotation}
    assert difference(make(*source, seed), **arguments) <= 1


@pytest.mark.parametrize("make", [smooth, noise])
@pytest.mark.parametrize("scale", [0.15, 0.25, 0.44, 0.9, 2.1])
def test_within_a_grey_level_at_size(make, scale):
    source = (700, 400)
    resized = tuple(int(scale * side) for side in source)
    arguments = {"resized": resized, "crop": (5, -3), "output": resized, "rotation": 1.5}
    assert difference(make(*source, 0), **arguments) == 1


def test_rows_that_would_add_up():
    """If values in between were bytes, some of these would be rounded up where weights are positive
    and down where they are not: two levels apart."""
    size = (400, 300)
    for resized in ((250, 187), (176, 132), (390, 290)):
        for seed in range(4):
            image = noise(*size, seed, levels=2)
            assert difference(image, resized=resized, crop=(0, 0), output=resized) <= 1


@settings(max_examples=60, deadline=None)
@given(source=SIZES, resized=SIZES, seed=st.integers(0, 1000), flip=st.booleans())
def test_same_bits_as_defined(source, resized, seed, flip):
    """Whichever instructions the machine has."""
    resized = tuple(max(new, -(-old // 8)) for old, new in zip(source, resized))
    image = noise(*source, seed, levels=2)
    found = resample_image(
        image, resized=resized, crop=(0, 0), output=resized, flip=flip, exact=False
    )
    expected = defined(image, resized)
    np.testing.assert_array_equal(found, expected[..., ::-1] if flip else expected)


@pytest.mark.parametrize("crop", [(0, 0), (101, 0), (333, 57), (-40, -9)])
def test_same_bits_of_a_crop(crop):
    """Several stripes, some that begin at odd places, the last not whole."""
    image, resized, output = noise(900, 61, 0), (1031, 72), (900, 40)
    found = resample_image(image, resized=resized, crop=crop, output=output, exact=False)
    expected = np.pad(defined(image, resized), ((0, 0), (9, 40), (40, 900)))
    left, top = crop[0] + 40, crop[1] + 9
    np.testing.assert_array_equal(found, expected[:, top : top + 40, left : left + 900])


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_constant_images_stay_so(value):
    for source, resized in (((320, 180), (77, 41)), ((50, 30), (171, 96)), ((3, 2), (9, 1))):
        image = torch.full((source[1], source[0], 3), value, dtype=torch.uint8)
        found = resample_image(image, resized=resized, crop=(0, 0), output=resized, exact=False)
        assert (found == value).all()


def test_great_shrinking_is_exact():
    for source, resized in (((900, 40), (100, 40)), ((40, 900), (40, 100)), ((20_000, 3), (1, 1))):
        arguments = {"resized": resized, "crop": (0, 0), "output": resized}
        assert difference(noise(*source, 0), **arguments) == 0


def test_opcheck():
    for turn in ([], [65_000, 6_000, 10_000, -6_000, 65_000, 70_000]):
        arguments = (noise(40, 30, 0), [30, 20], [2, -3], [25, 15], True, turn, False)
        torch.library.opcheck(torch.ops.fsdbev.resample_image.default, arguments)
