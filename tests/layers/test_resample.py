"""resample_image: by hand, against Pillow, degenerate and malformed input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from nms_cases import needs_extension
from PIL import Image

from fsdbev.layers import resample_image, resample_image_reference


def reference(image, *, resized, crop, output, flip=False, rotation=0.0):
    return resample_image_reference(image, resized, crop, output, flip, rotation)


both = pytest.mark.parametrize("op", [resample_image, reference], ids=["op", "reference"])


def noise(width, height, seed=0):
    """A black and white image, whose weighted sums exceed 0 .. 255."""
    generator = torch.Generator().manual_seed(seed)
    return 255 * torch.randint(2, (height, width, 3), generator=generator, dtype=torch.uint8)


def grey(*rows):
    return torch.tensor(rows, dtype=torch.uint8)[..., None].expand(-1, -1, 3)


def as_it_is(op, image, **changes):
    """Resamples without resizing or cropping, except for the changes."""
    size = (image.shape[1], image.shape[0])
    return op(image, **{"resized": size, "crop": (0, 0), "output": size, **changes})


@both
def test_step_enlarged_by_hand(op):
    # Weights of a result a quarter off the nearer pixel: cubic(1/4) and cubic(5/4) or cubic(3/4).
    near, far, other = 0.8671875, -0.0703125, 0.2265625
    beyond, between = far / (near + far), other / (near + other)
    expected = [max(0, round(255 * beyond)), round(255 * between), round(255 * (1 - between)), 255]
    found = op(grey([0, 255]), resized=(4, 1), crop=(0, 0), output=(4, 1))
    assert found.tolist() == [[expected]] * 3 and expected == [0, 53, 202, 255]
    assert op(grey([0], [255]), resized=(1, 4), crop=(0, 0), output=(1, 4)).flatten().tolist() == (
        3 * expected
    )


@both
def test_shrinking_widens_the_window_by_hand(op):
    # Three pixels to one: it weights all three, at -1/3, 0 and 1/3 of the window's scale.
    near = 1.5 / 27 - 2.5 / 9 + 1
    expected = round(255 / (1 + 2 * near))
    found = op(grey([0, 255, 0]), resized=(1, 1), crop=(0, 0), output=(1, 1))
    assert found.flatten().tolist() == [expected] * 3


@both
def test_channels_come_first(op):
    image = noise(5, 3)
    found = as_it_is(op, image)
    assert torch.equal(found, image.permute(2, 0, 1)) and found.is_contiguous()


@both
def test_crop_and_flip(op):
    image = noise(6, 4)
    expected = torch.zeros(3, 3, 8, dtype=torch.uint8)
    expected[:, 1:, 2:] = image.permute(2, 0, 1)[:, :2]  # two columns and a row are outside
    found = as_it_is(op, image, crop=(-2, -1), output=(8, 3))
    assert torch.equal(found, expected)
    found = as_it_is(op, image, crop=(-2, -1), output=(8, 3), flip=True)
    assert torch.equal(found, expected.flip(2))
    inside = as_it_is(op, image, crop=(3, 1), output=(2, 2))
    assert torch.equal(inside, image.permute(2, 0, 1)[:, 1:3, 3:5])


@both
def test_quarter_turns(op):
    image = noise(5, 5)
    for turns in range(-4, 5):
        found = as_it_is(op, image, rotation=90.0 * turns)
        assert torch.equal(found, image.permute(2, 0, 1).rot90(turns, (1, 2))), turns


@both
def test_rotation_is_counter_clockwise_and_leaves_black_corners(op):
    white = torch.full((20, 20, 3), 255, dtype=torch.uint8)
    white[:, 10:] = 100
    found = as_it_is(op, white, rotation=45.0)[0]
    assert found[0, 0] == found[0, 19] == found[19, 0] == found[19, 19] == 0
    assert found[3, 10] == 100 and found[16, 10] == 255  # the right half is on top


SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))
ANGLES = st.one_of(
    st.floats(-6, 6), st.floats(-400, 400), st.sampled_from([0, 90, 180, 360, 1e-14])
)


@needs_extension
@settings(max_examples=150, deadline=None)
@given(
    source=SIZES,
    resized=SIZES,
    crop=st.tuples(st.integers(-30, 60), st.integers(-30, 60)),
    output=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    flip=st.booleans(),
    rotation=ANGLES,
    seed=st.integers(0, 1000),
)
def test_equals_reference(source, resized, crop, output, flip, rotation, seed):
    arguments = {"resized": resized, "crop": crop, "output": output}
    arguments |= {"flip": flip, "rotation": rotation}
    image = noise(*source, seed)
    assert torch.equal(resample_image(image, **arguments), reference(image, **arguments))


@needs_extension
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("source", "resized", "crop", "output"),
    [
        ((900, 500), (550, 305), (23, 105), (500, 200)),  # several stripes, the last is shorter
        ((90, 50), (700, 400), (-20, -20), (740, 440)),
        ((3000, 40), (481, 33), (0, -3), (481, 40)),
        ((700, 17), (241, 17), (0, 0), (241, 17)),
        ((2, 2), (300, 1), (0, 0), (300, 1)),
    ],
)
def test_equals_reference_at_full_size(source, resized, crop, output, flip):
    image = noise(*source)
    for rotation in (0.0, 5.4, -3.3, 181.0):
        arguments = {"resized": resized, "crop": crop, "output": output}
        arguments |= {"flip": flip, "rotation": rotation}
        assert torch.equal(resample_image(image, **arguments), reference(image, **arguments))


@pytest.mark.parametrize("seed", range(4))
def test_equals_pillow_in_one_go(seed):
    """Against Pillow's calls of the published code: wide images are resized along rows first."""
    rng = np.random.default_rng(seed)
    image = noise(160, 90, seed)
    width = int(rng.integers(40, 120))
    resized, rotation = (width, width * 9 // 16), float(rng.uniform(-5.4, 5.4))
    crop = (int(rng.integers(-5, 20)), resized[1] - 32)
    picture = Image.fromarray(image.numpy()).resize(resized, Image.Resampling.BICUBIC)
    picture = picture.crop((*crop, crop[0] + 88, crop[1] + 32)).rotate(rotation)
    found = resample_image(image, resized=resized, crop=crop, output=(88, 32), rotation=rotation)
    np.testing.assert_array_equal(found.permute(1, 2, 0), np.asarray(picture))


@both
@pytest.mark.parametrize("changes", [{"crop": (9, 0)}, {"crop": (0, -4)}, {"crop": (-(2**20), 0)}])
def test_crops_outside_of_the_image_are_black(op, changes):
    found = as_it_is(op, noise(6, 4), rotation=3.0, **changes)
    assert found.shape == (3, 4, 6) and not found.any()


@both
@pytest.mark.parametrize("output", [(0, 5), (5, 0), (0, 0)])
def test_empty_output(op, output):
    found = as_it_is(op, noise(6, 4), output=output, rotation=3.0)
    assert found.shape == (3, output[1], output[0]) and found.dtype == torch.uint8


@both
def test_any_strides(op):
    options = {"resized": (17, 13), "crop": (1, 1), "output": (16, 12), "rotation": 2.0}
    every_other = noise(60, 40)[::2, ::2]
    channels_first = noise(30, 20).permute(2, 0, 1).contiguous().permute(1, 2, 0)
    swapped = noise(20, 30).transpose(0, 1)
    for view in (every_other, channels_first, swapped):
        assert not view.is_contiguous()
        assert torch.equal(op(view, **options), op(view.contiguous(), **options))


@both
def test_input_is_unchanged(op):
    image = noise(30, 20)
    before = image.clone()
    result = as_it_is(op, image, flip=True)
    result.zero_()
    assert torch.equal(image, before)


MALFORMED = [
    ({"image": torch.zeros(4, 6, dtype=torch.uint8)}, r"image must be \(height, width, 3\)"),
    ({"image": torch.zeros(4, 6, 4, dtype=torch.uint8)}, r"image must be \(height, width, 3\)"),
    ({"image": torch.zeros(0, 6, 3, dtype=torch.uint8)}, "image must be .*not empty"),
    ({"image": torch.zeros(4, 6, 3)}, "image must be uint8, got"),
    (
        {"image": torch.zeros(1, 1, 3, dtype=torch.uint8).expand(1, 2**21, 3)},
        "image must be .*2097",
    ),
    ({"resized": (0, 4)}, r"resized must be width, height in 1 \.\. 1048576, got \[0, 4\]"),
    ({"resized": (6, 2**21)}, "resized must be"),
    ({"resized": (6, 4, 3)}, "resized must be width, height, got"),
    ({"crop": (2**21, 0)}, "crop must be left, top in -1048576 .* got"),
    ({"crop": (0,)}, "crop must be left, top, got"),
    ({"output": (-1, 4)}, "output must be width, height in 0 "),
    ({"output": (6, 2**15)}, "output must be .*32768"),
    ({"rotation": math.nan}, "rotation must be finite, got nan"),
    ({"rotation": math.inf}, "rotation must be finite, got inf"),
]


@pytest.mark.parametrize(("changes", "message"), MALFORMED)
def test_malformed(changes, message):
    arguments = {"image": noise(6, 4), "resized": (6, 4), "crop": (0, 0), "output": (6, 4)}
    for op in (resample_image,) if "rotation" in changes else (resample_image, reference):
        with pytest.raises(ValueError, match=message):
            op(**{**arguments, **changes})


def test_other_devices_are_refused():
    with pytest.raises(ValueError, match="image must be on the CPU, got meta"):
        as_it_is(resample_image, noise(6, 4).to("meta"))


@needs_extension
@pytest.mark.parametrize("turn", [[1, 2, 3], [0, 0, 0, 0, 0, 2**41], [-(2**63)] * 6])
def test_malformed_turn(turn):
    with pytest.raises(ValueError, match="turn must be"):
        torch.ops.fsdbev.resample_image(noise(6, 4), (6, 4), (0, 0), (6, 4), False, turn)


@needs_extension
@pytest.mark.parametrize("seed", range(8))
def test_any_turn_stays_in_the_image(seed):
    """Matrices that are no rotation: pixels from outside of the image are black."""
    rng = np.random.default_rng(seed)
    turn = [int(number) for number in rng.integers(-(2**18), 2**18, 6)]
    image = noise(6, 4)
    found = torch.ops.fsdbev.resample_image(image, (6, 4), (0, 0), (9, 8), False, turn)
    expected = torch.zeros_like(found)
    for y in range(8):
        for x in range(9):
            u, v = ((turn[i] * x + turn[i + 1] * y + turn[i + 2]) >> 16 for i in (0, 3))
            if 0 <= u < 6 and 0 <= v < 4:
                expected[:, y, x] = image[v, u]
    assert torch.equal(found, expected)
