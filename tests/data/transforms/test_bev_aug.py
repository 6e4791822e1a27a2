"""BEV augmentation: flip after scaled rotation, ranges of the draws, reproducible."""

import numpy as np
import pytest

from fsdbev.data.transforms.bev_aug import BEVAugmentation, bev_transform


def test_by_hand():
    matrix = bev_transform(rotation=90, scale=2, flip_x=True, flip_y=False)
    np.testing.assert_allclose(matrix @ [1, 0, 3, 1], [0, 2, 6, 1], atol=1e-12)
    np.testing.assert_allclose(matrix @ [0, 1, 0, 1], [2, 0, 0, 1], atol=1e-12)
    matrix = bev_transform(rotation=0, scale=1, flip_x=False, flip_y=True)
    np.testing.assert_allclose(matrix, np.diag([1, -1, 1, 1]))


def test_draws_stay_in_their_ranges():
    augmentation, rng = BEVAugmentation(), np.random.default_rng(0)
    draws = np.stack([augmentation.sample(rng) for _ in range(500)])
    scale = draws[:, 2, 2]
    assert 0.95 <= scale.min() < 0.96 and 1.04 < scale.max() <= 1.05
    flips = np.sign(draws[:, [0, 1], [0, 1]])  # rotations are under 90 degrees
    assert ((0.4 < (flips < 0).mean(axis=0)) & ((flips < 0).mean(axis=0) < 0.6)).all()
    angle = np.degrees(np.arctan2(draws[:, 1, 0] * flips[:, 1], draws[:, 0, 0] * flips[:, 0]))
    assert -22.5 <= angle.min() < -20 and 20 < angle.max() <= 22.5
    np.testing.assert_allclose(np.abs(np.linalg.det(draws)), scale**3)


def test_same_generator_same_transform():
    first, second = (BEVAugmentation().sample(np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_impossible_scale_is_refused():
    with pytest.raises(ValueError, match="scale"):
        BEVAugmentation(scale=(1.05, 0.95))
