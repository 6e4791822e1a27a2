"""Catalogs and parts of data loaders. Runs on the built-in and on Detectron2."""

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
    """Data set of one random number of each generator."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return random.random(), np.random.rand(), torch.rand(()).item()


def test_dataset_catalog():
    DatasetCatalog.register(NAME, lambda: [1, 2])
    try:
        assert DatasetCatalog.get(NAME) == [1, 2]
        assert NAME in DatasetCatalog and NAME in DatasetCatalog.list()
        with pytest.raises((AssertionError, ValueError), match="already"):
            DatasetCatalog.register(NAME, list)
    finally:
        DatasetCatalog.remove(NAME)
    with pytest.raises(KeyError, match=NAME):
        DatasetCatalog.get(NAME)
    with pytest.raises((AssertionError, ValueError)):
        DatasetCatalog.register(NAME, [1, 2])


def test_metadata_catalog():
    metadata = MetadataCatalog.get(NAME).set(root="data", version="v1")
    try:
        assert metadata is MetadataCatalog.get(NAME)
        assert (metadata.name, metadata.root, metadata.get("split", "val")) == (NAME, "data", "val")
        assert metadata.as_dict() == {"name": NAME, "root": "data", "version": "v1"}
        metadata.root = "data"  # an equal value is accepted
        with pytest.raises((AssertionError, ValueError), match="root"):
            metadata.root = "other"
        with pytest.raises(AttributeError):
            _ = metadata.split
        assert NAME in MetadataCatalog.list()
    finally:
        MetadataCatalog.remove(NAME)
    assert NAME not in MetadataCatalog


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
    for of_one, of_other in zip(*first, strict=True):  # by generator, of the two workers
        assert of_one != of_other
    assert first == drawn(11)
    assert first != drawn(12)
