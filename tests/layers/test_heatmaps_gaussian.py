"""draw_gaussians: by hand, against the reference, degenerate and malformed input."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from nms_cases import needs_cuda, needs_extension

from fsdbev.layers import draw_gaussians, draw_gaussians_reference
from fsdbev.layers.reference import heatmaps as references

LARGEST = 2**63 - 1


def reference(xy, radius, plane, *, planes, shape):
    return draw_gaussians_reference(xy, radius, plane, planes, shape)


both = pytest.mark.parametrize("op", [draw_gaussians, reference], ids=["op", "reference"])


def draw(op, *peaks, planes=1, shape=(5, 7)):
    """Draws peaks (x, y, radius, plane)."""
    table = torch.tensor(peaks, dtype=torch.int64).reshape(-1, 4)
    return op(table[:, :2], table[:, 2], table[:, 3], planes=planes, shape=shape)


@both
def test_by_hand(op):
    maps = draw(op, (2, 1, 1, 1), planes=3)
    assert maps.shape == (3, 5, 7) and maps.dtype == torch.float32 and maps.is_contiguous()
    beside = math.exp(-1 / (2 * 0.5**2))  # sigma is 3 / 6
    expected = torch.zeros(3, 5, 7)
    row = torch.tensor([beside, 1, beside])
    expected[1, :3, 1:4] = torch.stack([beside * row, row, beside * row])
    torch.testing.assert_close(maps, expected)


@both
def test_cut_at_the_border(op):
    maps = draw(op, (0, 4, 2, 0))
    along = torch.exp(-torch.arange(3.0).square() / (2 * (5 / 6) ** 2))
    torch.testing.assert_close(maps[0, 2:, :3], along.flip(0)[:, None] * along)
    assert (maps > 0).sum() == 9


@both
def test_zero_radius_and_one_beyond_the_grid(op):
    assert draw(op, (3, 2, 0, 0)).sum() == 1
    for radius in (100_000, LARGEST):
        torch.testing.assert_close(draw(op, (6, 0, radius, 0)), torch.ones(1, 5, 7))


@both
def test_overlapping_peaks_keep_the_maximum(op):
    one, other = draw(op, (2, 2, 2, 0)), draw(op, (4, 2, 3, 0))
    assert ((one > 0) & (other > 0)).any()
    for peaks in (((2, 2, 2, 0), (4, 2, 3, 0)), ((4, 2, 3, 0), (2, 2, 2, 0), (2, 2, 2, 0))):
        assert torch.equal(draw(op, *peaks), one.maximum(other))


@both
def test_peaks_without_a_plane_are_not_checked(op):
    peaks = ((99, 2, 2, -1), (2, -(2**63), LARGEST, -1), (1, 1, -3, -1), (2, 2, 1, 1))
    maps = draw(op, *peaks, planes=2)
    assert not maps[0].any() and torch.equal(maps[1:], draw(op, (2, 2, 1, 0)))
    assert draw(op, *peaks[:3], planes=0).shape == (0, 5, 7)
    assert draw(op, *peaks[:3], shape=(0, 0)).shape == (1, 0, 0)
    assert draw(op, planes=2).shape == (2, 5, 7) and not draw(op, planes=2).any()


def random_peaks(peaks, planes, shape, seed, largest=9):
    generator = torch.Generator().manual_seed(seed)

    def draw_below(high):
        return torch.randint(0, high, (peaks,), generator=generator)

    xy = torch.stack([draw_below(shape[1]), draw_below(shape[0])], dim=1)
    return xy, draw_below(largest), draw_below(planes + 1) - 1


@needs_extension
@settings(max_examples=40, deadline=None)
@given(
    peaks=st.integers(0, 40),
    planes=st.integers(0, 5),
    shape=st.tuples(st.integers(1, 19), st.integers(1, 23)),
    seed=st.integers(0, 2**31),
)
def test_op_equals_reference(peaks, planes, shape, seed):
    arguments = random_peaks(peaks, planes, shape, seed)
    found = draw_gaussians(*arguments, planes=planes, shape=shape)
    expected = reference(*arguments, planes=planes, shape=shape)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_drawing_in_chunks_changes_nothing(monkeypatch):
    arguments = random_peaks(20, 3, (9, 9), 0)
    expected = reference(*arguments, planes=3, shape=(9, 9))
    monkeypatch.setattr(references, "_CHUNK", 7)
    assert torch.equal(reference(*arguments, planes=3, shape=(9, 9)), expected)


MALFORMED = [
    (lambda a: {"xy": a["xy"][:, :1]}, r"xy must be \(P, 2\)"),
    (lambda a: {"xy": a["xy"].float()}, "must be int64"),
    (lambda a: {"radius": a["radius"].int()}, "must be int64"),
    (lambda a: {"plane": a["plane"].bool()}, "must be int64"),
    (lambda a: {"radius": a["radius"][:3]}, r"radius must be \(P,\) beside xy"),
    (lambda a: {"plane": a["plane"][None]}, r"plane must be \(P,\) beside xy"),
    (lambda a: {"plane": a["plane"] + 9}, r"plane must be in -1 \.\. 2, got"),
    (lambda a: {"plane": a["plane"] - 9}, r"plane must be in -1 \.\. 2, got"),
    (lambda a: {"xy": a["xy"] + 9}, "xy.* must be "),
    (lambda a: {"xy": a["xy"] - 9}, "xy.* must be "),
    (lambda a: {"shape": (9, 0)}, "xy.* must be "),
    (lambda a: {"radius": a["radius"] - 99}, "radius must "),
    (lambda a: {"planes": -1}, "planes must not be negative, got -1"),
    (lambda a: {"shape": (9,)}, r"shape must be \(Y, X\)"),
    (lambda a: {"shape": (9, -1)}, r"shape must be \(Y, X\), not negative"),
]


@both
@pytest.mark.parametrize(("change", "message"), MALFORMED)
def test_malformed(op, change, message):
    arguments = dict(zip(("xy", "radius", "plane"), random_peaks(20, 3, (9, 9), 0)))
    arguments |= {"planes": 3, "shape": (9, 9)}
    arguments |= change(arguments)
    tensors = [arguments.pop(name) for name in ("xy", "radius", "plane")]
    with pytest.raises(ValueError, match=message):
        op(*tensors, **arguments)


def test_devices_must_agree():
    xy, radius, plane = random_peaks(3, 3, (9, 9), 0)
    with pytest.raises(ValueError, match="radius is on meta, xy on cpu"):
        reference(xy, radius.to("meta"), plane, planes=3, shape=(9, 9))


@needs_cuda
def test_gpu_equals_reference_every_time():
    arguments = random_peaks(900, 40, (128, 128), 0, largest=30)
    expected = reference(*arguments, planes=40, shape=(128, 128))
    on_gpu = [t.cuda() for t in arguments]
    found = [draw_gaussians(*on_gpu, planes=40, shape=(128, 128)) for _ in range(2)]
    assert torch.equal(*found)
    torch.testing.assert_close(found[0].cpu(), expected, rtol=1e-6, atol=0)
