"""Built-in ``detectron2.data``: catalogs of data sets and parts of data loaders."""

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
    """Functions that return data sets, by the name of the data set."""

    def register(self, name: str, func: Callable[[], Any]) -> None:
        """Registers a data set.

        Args:
            name: name of the data set.
            func: function without arguments that returns the data set; every call must return the
                same one.

        Raises:
            ValueError: if ``func`` is not callable or ``name`` is registered already.
        """
        if not callable(func):
            raise ValueError(f"data set {name!r} needs a function that returns it, got {func!r}")
        if name in self:
            raise ValueError(f"data set {name!r} is registered already; pop it first")
        self[name] = func

    def get(self, name: str) -> Any:
        """Calls the registered function and returns its result.

        Raises:
            KeyError: if ``name`` is not registered.
        """
        if name not in self:
            raise KeyError(f"data set {name!r} is not registered; registered are {sorted(self)}")
        return self[name]()

    def list(self) -> list[str]:
        """Returns the names of all registered data sets."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Removes a data set, as ``pop`` does."""
        self.pop(name)


class Metadata(types.SimpleNamespace):
    """Metadata of one data set, as attributes. An attribute cannot be set to another value later.

    Raises:
        ValueError: if an attribute is set to a value other than its present one.
    """

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.__dict__ and self.__dict__[key] != value:
            raise ValueError(
                f"metadata {key!r} of data set {self.name!r} is {self.__dict__[key]!r} already and "
                f"cannot be set to {value!r}"
            )
        super().__setattr__(key, value)

    def set(self, **metadata: Any) -> Metadata:
        """Sets every keyword argument as an attribute and returns the object."""
        for key, value in metadata.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Returns an attribute, or ``default`` if it is not set."""
        return getattr(self, key, default)

    def as_dict(self) -> dict[str, Any]:
        """Returns a copy of all attributes, including ``name``."""
        return dict(self.__dict__)


class _MetadataCatalog(UserDict):
    """Metadata by the name of the data set."""

    def get(self, name: str) -> Metadata:
        """Returns the metadata of a data set; creates it at the first call."""
        if name not in self:
            self[name] = Metadata(name=name)
        return self[name]

    def list(self) -> list[str]:
        """Returns the names of all data sets with metadata."""
        return list(self.keys())

    def remove(self, name: str) -> None:
        """Removes the metadata of a data set, as ``pop`` does."""
        self.pop(name)


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()


class InferenceSampler(Sampler):
    """Sampler that yields every index exactly once over all ranks.

    Each rank yields a contiguous range. The lengths of the ranges differ by at most one, the first
    ranks have the longer ones, as in Detectron2.

    Args:
        size: number of samples of the data set, at least 1.
    """

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
    """Returns the list of samples unchanged as the batch."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Seeds all random generators of a loader's worker from the loader's seed and the worker id."""
    # As in Detectron2. The modulus keeps the sum within the 32 bits of numpy's seeds.
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)
