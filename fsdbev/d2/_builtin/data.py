"""Built-in side of ``detectron2.data``: catalogs, dataset wrappers, samplers, the batch loader."""

from __future__ import annotations

import copy
import itertools
import logging
import random
import types
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from . import comm
from .env import seed_all_rng

logger = logging.getLogger(__name__)


class _DatasetCatalog(UserDict):
    """Functions that make data sets, by the name of the data set."""

    def register(self, name: str, func: Callable[[], Any]) -> None:
        """``func`` takes nothing and returns the data set, the same one at every call."""
        if not callable(func):
            raise ValueError(f"data set {name!r} needs a function that makes it, got {func!r}")
        if name in self:
            raise ValueError(f"data set {name!r} is registered already; pop it first")
        self[name] = func

    def get(self, name: str) -> Any:
        """Calls the registered function."""
        if name not in self:
            raise KeyError(f"data set {name!r} is not registered; there are {sorted(self)}")
        return self[name]()

    def list(self) -> list[str]:
        return list(self.keys())


class Metadata(types.SimpleNamespace):
    """Facts about one data set, as attributes that are set once."""

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.__dict__ and self.__dict__[key] != value:
            raise ValueError(
                f"{key!r} of data set {self.name!r} is {self.__dict__[key]!r} already and cannot "
                f"become {value!r}"
            )
        super().__setattr__(key, value)

    def set(self, **facts: Any) -> Metadata:
        for key, value in facts.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)

    def as_dict(self) -> dict[str, Any]:
        """A copy of all the facts, the data set's name among them."""
        return dict(self.__dict__)


class _MetadataCatalog(UserDict):
    """Metadata by the name of the data set; ``get`` makes it where there is none."""

    def get(self, name: str) -> Metadata:
        if name not in self:
            self[name] = Metadata(name=name)
        return self[name]

    def list(self) -> list[str]:
        return list(self.keys())


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()


class DatasetFromList(Dataset):
    """The items of a list, each as a deep copy unless ``copy`` is false.

    ``serialize`` is accepted for Detectron2, where it packs the list into one shared buffer; here
    the list stays as it is.
    """

    def __init__(self, lst: list, copy: bool = True, serialize: bool = True) -> None:
        self._list = lst
        self._copy = copy

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, index: int) -> Any:
        return copy.deepcopy(self._list[index]) if self._copy else self._list[index]


class MapDataset(Dataset):
    """A function over the items of a data set.

    An item for which it returns None is replaced by another one, drawn at random; of an iterable
    data set it is left out.
    """

    def __new__(cls, dataset: Dataset, map_func: Callable) -> Dataset:
        if isinstance(dataset, IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __getnewargs__(self) -> tuple[Dataset, Callable]:
        return self._dataset, self._map_func

    def __init__(self, dataset: Dataset, map_func: Callable) -> None:
        self._dataset = dataset
        self._map_func = map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        mapped = self._map_func(self._dataset[int(index)])
        if mapped is not None:
            return mapped
        others = [i for i in range(len(self)) if i != index]
        random.Random(int(index)).shuffle(others)
        for other in others:
            mapped = self._map_func(self._dataset[other])
            if mapped is not None:
                logger.warning("item %d maps to None: item %d replaces it", index, other)
                return mapped
        raise ValueError(f"the map function returns None for all {len(self)} items of the data set")


class _MapIterableDataset(IterableDataset):
    def __init__(self, dataset: IterableDataset, map_func: Callable) -> None:
        self._dataset = dataset
        self._map_func = map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator:
        return (mapped for mapped in map(self._map_func, self._dataset) if mapped is not None)


def _shard_over_workers(indices: Iterable[int], chunk: int) -> Iterator[int]:
    """Of chunks of ``chunk`` indices dealt round the loader's workers, those of this worker."""
    worker = get_worker_info()
    for position, index in enumerate(indices):
        if worker is None or position // chunk % worker.num_workers == worker.id:
            yield index


class ToIterableDataset(IterableDataset):
    """A map-style data set in the order of a sampler.

    The sampler runs in every worker of the loader. With ``shard_sampler`` each worker keeps its
    share of the indices, in chunks of ``shard_chunk_size``: the batch size, so that batches are the
    same for any number of workers.
    """

    def __init__(
        self,
        dataset: Dataset,
        sampler: Sampler,
        shard_sampler: bool = True,
        shard_chunk_size: int = 1,
    ) -> None:
        if isinstance(dataset, IterableDataset) or not isinstance(sampler, Sampler):
            raise ValueError(
                f"a map-style data set and a Sampler are needed, got {dataset!r} and {sampler!r}"
            )
        self.dataset = dataset
        self.sampler = sampler
        self.shard_sampler = shard_sampler
        self.shard_chunk_size = shard_chunk_size

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator:
        indices = self.sampler
        if self.shard_sampler:
            indices = _shard_over_workers(self.sampler, self.shard_chunk_size)
        for index in indices:
            yield self.dataset[index]


class TrainingSampler(Sampler):
    """An endless stream of indices: the whole data set, shuffled anew, again and again.

    Rank r of R gets every R-th index of it from the r-th on. Not sharded by loader worker:
    ``ToIterableDataset`` does that.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        """``seed`` must be the same on all ranks; None draws a shared one."""
        if not isinstance(size, int):
            raise TypeError(f"TrainingSampler needs an integer size, got {size!r}")
        if size <= 0:
            raise ValueError(f"TrainingSampler needs a positive size, got {size}")
        self._size = size
        self._shuffle = shuffle
        self._seed = comm.shared_random_seed() if seed is None else int(seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._stream(), self._rank, None, self._world_size)

    def _stream(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            if self._shuffle:
                yield from torch.randperm(self._size, generator=generator).tolist()
            else:
                yield from range(self._size)


class InferenceSampler(Sampler):
    """Every index once: rank r gets the r-th contiguous part; parts differ in length by one at
    most, the longer ones first."""

    def __init__(self, size: int) -> None:
        if size <= 0:
            raise ValueError(f"InferenceSampler needs a positive size, got {size}")
        rank, world_size = comm.get_rank(), comm.get_world_size()
        share, longer = divmod(size, world_size)
        first = rank * share + min(rank, longer)
        self._indices = range(first, first + share + (rank < longer))

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)


def trivial_batch_collator(batch: list) -> list:
    """A batch is the list of its samples."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Seeds all random generators of a loader's worker by the loader's seed and the worker."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


def build_batch_data_loader(
    dataset: Dataset,
    sampler: Sampler | None,
    total_batch_size: int,
    *,
    num_workers: int = 0,
    collate_fn: Callable | None = None,
    drop_last: bool = True,
    prefetch_factor: int = 2,
    seed: int | None = None,
    **kwargs: Any,
) -> DataLoader:
    """A loader of this rank's part of each batch, a list of samples.

    Args:
        dataset: map-style, with ``sampler``, or iterable, without one.
        sampler: gives this rank's indices.
        total_batch_size: over all ranks; a multiple of their number.
        num_workers: of this rank's loader.
        collate_fn: of the samples of a batch; default ``trivial_batch_collator``.
        drop_last: leave out an incomplete last batch.
        prefetch_factor: batches that a worker loads ahead.
        seed: of the workers' random generators; None draws one.
        **kwargs: to ``torch.utils.data.DataLoader``, such as ``pin_memory``.
    """
    world_size = comm.get_world_size()
    if total_batch_size <= 0 or total_batch_size % world_size:
        raise ValueError(
            f"total_batch_size is {total_batch_size}: it must be a positive multiple of the "
            f"{world_size} processes"
        )
    batch_size = total_batch_size // world_size
    if not isinstance(dataset, IterableDataset):
        dataset = ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)
    elif sampler is not None:
        raise ValueError("an iterable data set has its own order: sampler must be None")
    return DataLoader(
        dataset,
        batch_size=batch_size,
        drop_last=drop_last,
        num_workers=num_workers,
        collate_fn=collate_fn or trivial_batch_collator,
        worker_init_fn=worker_init_reset_seed,
        prefetch_factor=prefetch_factor if num_workers > 0 else None,
        generator=None if seed is None else torch.Generator().manual_seed(seed),
        **kwargs,
    )
