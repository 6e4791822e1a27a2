"""What catalogs, samplers and loaders promise, whichever side of the door they come from."""

import pickle
import random
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from fsdbev.d2.data import (
    DatasetCatalog,
    DatasetFromList,
    InferenceSampler,
    MapDataset,
    MetadataCatalog,
    ToIterableDataset,
    TrainingSampler,
    build_batch_data_loader,
    trivial_batch_collator,
)

NAME = "test_of_the_catalogs"


class Numbers(IterableDataset):
    def __iter__(self):
        return iter(range(5))


def half_of_even(number):
    return number // 2 if number % 2 == 0 else None


def draw(_):
    """One number of each random generator."""
    return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.fixture
def catalog():
    yield DatasetCatalog
    DatasetCatalog.pop(NAME, None)


def test_dataset_catalog(catalog):
    catalog.register(NAME, lambda: [1, 2])
    assert catalog.get(NAME) == [1, 2]
    assert NAME in catalog and NAME in catalog.list()
    with pytest.raises((AssertionError, ValueError), match="already"):
        catalog.register(NAME, list)
    catalog.pop(NAME)
    with pytest.raises(KeyError, match=NAME):
        catalog.get(NAME)
    with pytest.raises((AssertionError, ValueError)):
        catalog.register(NAME, [1, 2])


def test_metadata_catalog():
    metadata = MetadataCatalog.get(NAME).set(root="data", version="v1")
    try:
        assert metadata is MetadataCatalog.get(NAME)
        assert (metadata.name, metadata.root, metadata.get("split", "val")) == (NAME, "data", "val")
        assert metadata.as_dict() == {"name": NAME, "root": "data", "version": "v1"}
        metadata.root = "data"  # the same again is no conflict
        with pytest.raises((AssertionError, ValueError), match="root"):
            metadata.root = "other"
        with pytest.raises(AttributeError):
            _ = metadata.split
        assert NAME in MetadataCatalog.list()
    finally:
        MetadataCatalog.pop(NAME)


def test_dataset_from_list_gives_copies():
    items = [{"x": [1]}, {"x": [2]}]
    dataset = DatasetFromList(items)
    dataset[0]["x"].append(5)
    assert len(dataset) == 2 and dataset[0] == {"x": [1]}


def test_dataset_from_list_without_copies():
    items = [{"x": [1]}]
    assert DatasetFromList(items, copy=False, serialize=False)[0] is items[0]


def test_map_dataset():
    dataset = MapDataset([0, 2, 4], half_of_even)
    assert [dataset[i] for i in range(len(dataset))] == [0, 1, 2]
    assert pickle.loads(pickle.dumps(dataset))[2] == 2


def test_map_dataset_replaces_none():
    dataset = MapDataset([1, 3, 8, 5], half_of_even)
    assert [dataset[i] for i in range(4)] == [4, 4, 4, 4]


def test_map_dataset_that_maps_all_to_none():
    with pytest.raises((ValueError, IndexError)):  # and no endless search
        MapDataset([1, 3], half_of_even)[0]


def test_map_dataset_leaves_none_out_of_a_stream():
    dataset = MapDataset(Numbers(), half_of_even)
    assert isinstance(dataset, IterableDataset)
    assert list(dataset) == [0, 1, 2]


def test_training_sampler_is_an_endless_stream_of_whole_shuffles():
    stream = list(islice(TrainingSampler(7, seed=3), 21))
    epochs = [stream[:7], stream[7:14], stream[14:]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert stream == list(islice(TrainingSampler(7, seed=3), 21))
    assert stream != list(islice(TrainingSampler(7, seed=4), 21))


def test_training_sampler_without_shuffle():
    assert list(islice(TrainingSampler(3, shuffle=False), 7)) == [0, 1, 2, 0, 1, 2, 0]


def test_training_sampler_shuffles_as_torch_does():
    """The stream is part of the contract: runs are comparable over both sides of the door."""
    generator = torch.Generator().manual_seed(5)
    expected = [i for _ in range(2) for i in torch.randperm(6, generator=generator).tolist()]
    assert list(islice(TrainingSampler(6, seed=5), 12)) == expected


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError)])
def test_training_sampler_refuses_sizes(size, error):
    with pytest.raises(error):
        TrainingSampler(size)


def test_inference_sampler_takes_each_once():
    sampler = InferenceSampler(5)
    assert len(sampler) == 5 and list(sampler) == [0, 1, 2, 3, 4]
    with pytest.raises((AssertionError, ValueError)):
        InferenceSampler(0)


def test_to_iterable_dataset():
    dataset = ToIterableDataset("abc", InferenceSampler(3))
    assert len(dataset) == 3 and list(dataset) == ["a", "b", "c"]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(workers):
    loader = build_batch_data_loader(
        list(range(10)), TrainingSampler(10, shuffle=False), 3, num_workers=workers
    )
    batches = list(islice(loader, 4))
    assert batches == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 0, 1]]


@pytest.mark.parametrize(("drop_last", "count"), [(True, 2), (False, 3)])
def test_incomplete_batch(drop_last, count):
    loader = build_batch_data_loader(
        list(range(5)), InferenceSampler(5), 2, drop_last=drop_last, collate_fn=tuple
    )
    batches = list(loader)
    assert batches[:2] == [(0, 1), (2, 3)] and len(batches) == count


def test_loader_of_an_iterable_dataset():
    assert list(build_batch_data_loader(Numbers(), None, 2)) == [[0, 1], [2, 3]]
    with pytest.raises((AssertionError, ValueError)):
        build_batch_data_loader(Numbers(), InferenceSampler(5), 2)


@pytest.mark.parametrize("size", [0, -2])
def test_loader_refuses_batch_sizes(size):
    with pytest.raises((AssertionError, ValueError)):
        build_batch_data_loader([1], InferenceSampler(1), size)


def test_workers_draw_different_numbers_that_a_seed_repeats():
    def drawn(seed):
        dataset = MapDataset(list(range(2)), draw)
        sampler = TrainingSampler(2, shuffle=False)
        loader = build_batch_data_loader(dataset, sampler, 1, num_workers=2, seed=seed)
        return [batch[0] for batch in islice(loader, 2)]

    first = drawn(11)
    for of_one, of_other in zip(*first, strict=True):  # of each generator, by the two workers
        assert of_one != of_other
    assert first == drawn(11)
    assert first != drawn(12)


def test_a_batch_is_a_list():
    batch = [{"a": 1}, {"a": 2}]
    assert trivial_batch_collator(batch) is batch
