"""Samplers: infinite, reproducible, split over ranks, balanced by class, by scene."""

from itertools import islice

import numpy as np
import pytest

from fsdbev.data import samplers
from fsdbev.data.samplers import ClassBalancedSampler, EpochSampler, SceneSampler


def take(sampler, count):
    return list(islice(sampler, count))


def presence(counts, rows=2000, seed=0):
    """Returns (rows, classes) booleans with ``counts`` samples per class."""
    rng = np.random.default_rng(seed)
    present = np.zeros((rows, len(counts)), bool)
    for column, count in enumerate(counts):
        present[rng.choice(rows, count, replace=False), column] = True
    return present


def test_an_epoch_has_every_row_once():
    draws = take(EpochSampler(7, seed=1), 21)
    assert [d.number for d in draws] == list(range(21))
    epochs = [[d.row for d in draws[i : i + 7]] for i in (0, 7, 14)]
    assert all(sorted(rows) == list(range(7)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: EpochSampler(50, seed=seed),
        lambda seed: ClassBalancedSampler(presence([9, 40]), seed=seed),
    ],
)
def test_draws_depend_on_the_seed_only(make):
    assert take(make(5), 200) == take(make(5), 200)
    assert take(make(5), 200) != take(make(6), 200)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_take_turns(monkeypatch, world_size):
    expected = take(EpochSampler(10, seed=3), 30)
    monkeypatch.setattr(samplers.comm, "get_world_size", lambda: world_size)
    for rank in range(world_size):
        monkeypatch.setattr(samplers.comm, "get_rank", lambda rank=rank: rank)
        mine = take(EpochSampler(10, seed=3), 30 // world_size)
        assert mine == expected[rank::world_size]


def test_a_later_start_continues_the_same_draws():
    sampler = ClassBalancedSampler(presence([9, 40]), seed=3)
    expected = take(sampler, 120)
    sampler.start = 77
    assert take(sampler, 43) == expected[77:]
    assert take(ClassBalancedSampler(presence([9, 40]), seed=3, start=100), 20) == expected[100:]


def test_no_seed_draws_a_shared_one(monkeypatch):
    monkeypatch.setattr(samplers.comm, "shared_random_seed", lambda: 1234)
    for seed in (None, -1):
        assert EpochSampler(5, seed=seed).seed == 1234
    assert EpochSampler(5, seed=0).seed == 0


def test_classes_share_the_draws_evenly():
    counts = [1500, 400, 120, 60, 15, 300, 90, 45, 700, 30]
    present = presence(counts)
    sampler = ClassBalancedSampler(present, seed=0)
    assert sampler.epoch_size == sum(counts) // 10 * 10
    rows = sampler.epoch_rows(0)
    assert len(rows) == sampler.epoch_size
    # A sample with several classes counts for each, so a class gets its share or more.
    drawn = present[rows].sum(axis=0)
    share = sampler.epoch_size // 10
    assert (drawn >= share).all()
    plain = present[EpochSampler(len(present), seed=0).epoch_rows(0)].sum(axis=0)
    assert drawn.max() / drawn.min() < 10 < plain.max() / plain.min()
    # With one class per sample, the classes are drawn equally often.
    single = presence([1000, 10])
    single[single.all(axis=1), 0] = False
    drawn = single[ClassBalancedSampler(single, seed=1).epoch_rows(0)].sum(axis=0)
    assert drawn[0] == drawn[1]


def test_number_of_draws_is_that_of_the_class_counts():
    """28130 samples of nuScenes train with 123580 (sample, class) pairs: about 123 k draws."""
    counts = [27558, 20120, 5855, 7974, 8195, 12100, 6570, 7010, 19200, 8998]
    sampler = ClassBalancedSampler(presence(counts, rows=28130), seed=0)
    assert sampler.epoch_size == pytest.approx(123_580, abs=10)


def test_absent_classes_are_left_out_and_none_at_all_is_an_error():
    sampler = ClassBalancedSampler(presence([0, 30, 10]), seed=0)
    assert sampler.epoch_size == 40
    assert sorted(sampler.epoch_rows(0)) != sorted(sampler.epoch_rows(1))
    with pytest.raises(ValueError, match="class_balanced=False"):
        ClassBalancedSampler(np.zeros((5, 10), bool), seed=0)
    with pytest.raises(ValueError, match="at least one row"):
        EpochSampler(0, seed=0)


def rows_of_ranks(monkeypatch, scene_ids, world_size):
    """Returns the rows of each rank."""
    monkeypatch.setattr(samplers.comm, "get_world_size", lambda: world_size)
    ranks = []
    for rank in range(world_size):
        monkeypatch.setattr(samplers.comm, "get_rank", lambda rank=rank: rank)
        sampler = SceneSampler(np.asarray(scene_ids))
        ranks.append(list(sampler))
        assert len(sampler) == len(ranks[-1])
    return ranks


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_ranks_get_complete_scenes_in_order(monkeypatch, world_size):
    lengths = np.random.default_rng(world_size).integers(1, 40, 20)
    scene_ids = np.repeat(np.arange(20), lengths)
    ranks = rows_of_ranks(monkeypatch, scene_ids, world_size)
    assert sorted(sum(ranks, [])) == list(range(len(scene_ids)))
    for rows in ranks:
        assert rows == sorted(rows)
        for scene in np.unique(scene_ids[rows]):
            assert np.count_nonzero(scene_ids[rows] == scene) == lengths[scene]
    sizes = [len(rows) for rows in ranks]
    assert max(sizes) - min(sizes) <= lengths.max()


def test_scattered_rows_and_more_ranks_than_scenes(monkeypatch):
    assert rows_of_ranks(monkeypatch, [0, 1, 0, 2, 1, 0], 1) == [[0, 2, 5, 1, 4, 3]]
    assert rows_of_ranks(monkeypatch, [0, 0, 1, 1, 1], 4) == [[2, 3, 4], [0, 1], [], []]
