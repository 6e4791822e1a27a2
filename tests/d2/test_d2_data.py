"""What catalogs and loaders' parts promise, whichever side of the door they come from."""

import random
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from fsdbev.d2.data import (
    DatasetCatalog,
    InferenceSampler,
    MetadataCatalog,
    trivial_batch_collator,
    worker_init_reset_seed,
)

NAME = "test_of_the_catalogs"


class Draws(Dataset):
    """One number of each random generator."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
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


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (5, [[0, 1, 2, 3, 4]]),
        (5, [[0, 1, 2], [3, 4]]),
        (7, [[0, 1, 2], [3, 4], [5, 6]]),
        (8, [[0, 1, 2], [3, 4, 5], [6, 7]]),
        (2, [[0], [1], []]),
    ],
)
def test_inference_sampler_gives_each_rank_a_contiguous_part(monkeypatch, size, parts):
    comm = sys.modules[InferenceSampler.__module__].comm
    monkeypatch.setattr(comm, "get_world_size", lambda: len(parts))
    for rank, part in enumerate(parts):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        sampler = InferenceSampler(size)
        assert list(sampler) == part and len(sampler) == len(part)


def test_inference_sampler_refuses_an_empty_data_set():
    with pytest.raises((AssertionError, ValueError)):
        InferenceSampler(0)


def test_workers_draw_different_numbers_that_a_seed_repeats():
    def drawn(seed):
        loader = DataLoader(
            Draws(),
            num_workers=2,
            collate_fn=trivial_batch_collator,
            worker_init_fn=worker_init_reset_seed,
            generator=torch.Generator().manual_seed(seed),
        )
        return [batch[0] for batch in loader]

    first = drawn(11)
    for of_one, of_other in zip(*first, strict=True):  # of each generator, by the two workers
        assert of_one != of_other
    assert first == drawn(11)
    assert first != drawn(12)


def test_a_batch_is_a_list():
    batch = [{"a": 1}, {"a": 2}]
    assert trivial_batch_collator(batch) is batch
