"""Homogeneous 4x4 transforms and rotations."""

import math

import pytest
import torch

from fsdbev.structures import invert, is_rotation, make_transform, rotation_z, transform_points


def random_transform(*batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.randn(*batch, 3, 3, generator=generator, dtype=torch.float64)
    translation = torch.randn(*batch, 3, generator=generator, dtype=torch.float64)
    return make_transform(rotation, translation)


def test_make_transform():
    a2b = make_transform(torch.eye(3) * 2, torch.tensor([1.0, 2.0, 3.0]))
    assert a2b.tolist() == [[2, 0, 0, 1], [0, 2, 0, 2], [0, 0, 2, 3], [0, 0, 0, 1]]
    assert make_transform(torch.eye(3)).equal(torch.eye(4))
    a2b = make_transform(torch.zeros(5, 2, 3, 3, dtype=torch.float64))
    assert a2b.shape == (5, 2, 4, 4) and a2b.dtype == torch.float64
    assert (a2b[..., 3, 3] == 1).all()


@pytest.mark.parametrize("shape", [(3,), (4, 4), (2, 3, 4)])
def test_make_transform_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="rotation must be"):
        make_transform(torch.zeros(shape))


def test_rotation_z_is_counter_clockwise():
    quarter = rotation_z(torch.tensor([0.0, math.pi / 2]))
    assert quarter.shape == (2, 3, 3)
    turned = quarter @ torch.tensor([1.0, 0.0, 5.0])
    assert torch.allclose(turned, torch.tensor([[1.0, 0, 5], [0, 1, 5]]), atol=1e-6)


def test_transform_points_is_the_homogeneous_product():
    a2b, points = random_transform(4), torch.randn(4, 7, 3, dtype=torch.float64)
    homogeneous = torch.cat([points, torch.ones(4, 7, 1, dtype=torch.float64)], dim=-1)
    expected = torch.einsum("bij,bmj->bmi", a2b, homogeneous)[..., :3]
    assert torch.allclose(transform_points(points, a2b), expected)


def test_transform_points_applies_one_transform_to_a_batch():
    points = torch.randn(4, 7, 3, dtype=torch.float64)
    a2b = random_transform()
    expected = torch.stack([transform_points(p, a2b) for p in points])
    assert torch.allclose(transform_points(points, a2b), expected)


def test_invert():
    a2b = random_transform(3, 2)
    identity = torch.eye(4, dtype=torch.float64).expand(3, 2, 4, 4)
    assert torch.allclose(invert(a2b) @ a2b, identity, atol=1e-9)
    last_row = torch.tensor([0, 0, 0, 1.0], dtype=torch.float64).expand(3, 2, 4)
    assert invert(a2b)[..., 3, :].equal(last_row)


def test_is_rotation():
    turned = rotation_z(torch.tensor([0.3, -2.0]))
    nearly = turned[0] + 2e-4
    others = (torch.zeros(3, 3), 1.01 * turned[0], turned[0] * torch.tensor([1.0, 1, -1]))
    matrices = torch.stack([*turned, nearly, *others, torch.full((3, 3), torch.nan)])
    assert is_rotation(matrices).tolist() == [True, True, True, False, False, False, False]
    assert is_rotation(nearly).item() and not is_rotation(nearly, tolerance=1e-5).item()
