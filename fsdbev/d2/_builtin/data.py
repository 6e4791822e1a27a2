"""Built-in side of ``detectron2.data``: catalogs, and parts of loaders."""

from __future__ import annotations

import types
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Sampler

from . import comm
from .env import seed_all_rng


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
