"""Lenses: valid and invalid ones, equality."""

import pickle

import numpy as np
import pytest
import torch

from fsdbev.structures import Lens

INTRINSICS = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])


def test_a_lens_is_compared_by_value_and_can_be_a_key():
    lens = Lens("fisheye", INTRINSICS, [0.1, 0, 0, 0])
    same = Lens("fisheye", torch.from_numpy(INTRINSICS), np.array([0.1, 0, 0, 0]))
    assert lens == same == pickle.loads(pickle.dumps(lens)) and len({lens, same}) == 1
    assert lens != Lens("radial_tangential", INTRINSICS, lens.coefficients)
    assert lens != Lens("fisheye", INTRINSICS + [[0, 0, 1], [0, 0, 0], [0, 0, 0]], (0.1, 0, 0, 0))
    assert lens != Lens("fisheye", INTRINSICS, (0.2, 0, 0, 0)) and lens != "fisheye"


def test_the_intrinsics_are_a_copy_that_can_not_change():
    given = INTRINSICS.copy()
    lens = Lens("fisheye", given, (0, 0, 0, 0))
    given[0, 0] = 1
    assert lens.intrinsics[0, 0] == 500 and lens.intrinsics.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        lens.intrinsics[0, 0] = 1


@pytest.mark.parametrize("count", [4, 5, 8, 12, 14])
def test_opencvs_numbers_of_radial_tangential_coefficients_are_allowed(count):
    assert len(Lens("radial_tangential", INTRINSICS, (0.01,) * count).coefficients) == count


def skewed():
    matrix = INTRINSICS.copy()
    matrix[0, 1] = 0.5
    return matrix


@pytest.mark.parametrize(
    "model, intrinsics, coefficients, message",
    [
        ("pinhole", INTRINSICS, (0,) * 4, "radial_tangential or fisheye, got 'pinhole'"),
        ("fisheye", INTRINSICS, (0,) * 5, "a fisheye lens has 4 coefficients, got 5"),
        ("radial_tangential", INTRINSICS, (0,) * 6, "4 or 5 or 8 or 12 or 14 coefficients, got 6"),
        ("fisheye", INTRINSICS, (0, 0, 0, np.nan), "must be finite"),
        ("fisheye", -INTRINSICS, (0,) * 4, "positive fx and fy, got"),
        ("fisheye", INTRINSICS[:2], (0,) * 4, "positive fx and fy, got"),
        ("fisheye", skewed(), (0,) * 4, r"\[\[fx, 0, cx\]"),
    ],
)
def test_invalid_lenses_are_refused(model, intrinsics, coefficients, message):
    with pytest.raises(ValueError, match=message):
        Lens(model, intrinsics, coefficients)
