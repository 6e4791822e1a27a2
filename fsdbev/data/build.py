"""Data sets in Detectron2's catalogs, and loaders of lists of sample dicts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fsdbev.d2.data import (
    DatasetCatalog,
    InferenceSampler,
    MetadataCatalog,
    trivial_batch_collator,
    worker_init_reset_seed,
)
from fsdbev.d2.utils import comm
from fsdbev.structures import CLASS_NAMES

from .dataset import FrameDataset
from .index import FrameIndex
from .mapper import MultiViewMapper
from .prepare import default_output, index_path, label_dir
from .samplers import ClassBalancedSampler, Draw, EpochSampler


def register_nuscenes(
    *, dataroot: str | os.PathLike, version: str, split: str, index_dir: str | os.PathLike | None
) -> str:
    """Registers a prepared split in Detectron2's catalogs as ``nuscenes_<version>_<split>``; a
    registration of that name with other folders is replaced. Returns the name.

    Args:
        dataroot: nuScenes folder, which holds the folder ``version``.
        version: e.g. ``v1.0-trainval``.
        split: an official split or one of the version's ``splits.json``.
        index_dir: what tools/prepare_nuscenes.py wrote; None: ``<dataroot>/fsdbev/<version>``.
    """
    name = f"nuscenes_{version}_{split}"
    output = Path(index_dir) if index_dir else default_output(dataroot, version)

    def open_dataset() -> FrameDataset:
        path = index_path(output, split)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: no index of {version} {split}; make it with: "
                f"python tools/prepare_nuscenes.py --dataroot {dataroot} --version {version} "
                f"--splits {split} --output {output}"
            )
        return FrameDataset(name, FrameIndex(path), Path(dataroot), label_dir(output))

    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)
    DatasetCatalog.register(name, open_dataset)
    MetadataCatalog.get(name).set(
        thing_classes=list(CLASS_NAMES),
        evaluator_type="nuscenes",
        dataroot=str(dataroot),
        version=version,
        split=split,
        index_dir=str(output),
    )
    return name


def open_nuscenes(
    *,
    dataroot: str | os.PathLike,
    version: str,
    split: str,
    index_dir: str | os.PathLike | None = None,
) -> FrameDataset:
    """Registers a prepared split (see :func:`register_nuscenes`) and opens it.

    Raises:
        FileNotFoundError: not prepared yet; the message says how.
        ValueError: prepared for another schema or convention.
    """
    name = register_nuscenes(dataroot=dataroot, version=version, split=split, index_dir=index_dir)
    return DatasetCatalog.get(name)


class MappedDataset(Dataset):
    """Samples of a data set by row, or by :class:`Draw` with augmentation seeded by its number."""

    def __init__(self, dataset: FrameDataset, mapper: MultiViewMapper, seed: int = 0) -> None:
        self.dataset = dataset
        self.mapper = mapper
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: Draw | int) -> dict[str, Any]:
        if isinstance(item, Draw):
            generator = np.random.default_rng((self.seed, item.number))
            return self.mapper(self.dataset, item.row, generator)
        return self.mapper(self.dataset, item)


def build_train_loader(
    *,
    dataset: FrameDataset,
    mapper: MultiViewMapper,
    total_batch_size: int,
    class_balanced: bool = True,
    num_workers: int = 4,
    prefetch_factor: int = 2,
    seed: int | None = None,
) -> DataLoader:
    """Endless loader of this rank's part of each batch, a list of sample dicts.

    Args:
        dataset: a prepared data set.
        mapper: with ``training=True``.
        total_batch_size: over all ranks.
        class_balanced: draw by CBGS; else every sample once an epoch.
        num_workers: of this rank; 0 loads in the main process.
        prefetch_factor: batches a worker loads ahead.
        seed: of order and augmentation, the same on all ranks; None or a negative one draws a
            shared one.

    ``loader.sampler`` is the sampler; set its ``start`` before iterating to continue a run.
    """
    world_size = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % world_size:
        raise ValueError(
            f"total_batch_size is {total_batch_size}: it must be a positive multiple of the "
            f"{world_size} processes"
        )
    if class_balanced:
        sampler = ClassBalancedSampler(dataset.index.classes_with_points, seed=seed)
    else:
        sampler = EpochSampler(len(dataset), seed=seed)
    return DataLoader(
        MappedDataset(dataset, mapper, sampler.seed),
        batch_size=total_batch_size // world_size,
        sampler=sampler,
        drop_last=True,
        generator=torch.Generator().manual_seed(sampler.seed),
        **_worker_options(num_workers, prefetch_factor),
    )


def build_test_loader(
    *,
    dataset: FrameDataset,
    mapper: MultiViewMapper,
    batch_size: int = 1,
    num_workers: int = 4,
    prefetch_factor: int = 2,
) -> DataLoader:
    """Loader of every sample once, in order; each rank gets a contiguous part.

    Args:
        dataset: a prepared data set.
        mapper: with ``training=False``.
        batch_size: of this rank.
        num_workers, prefetch_factor: as for :func:`build_train_loader`.
    """
    return DataLoader(
        MappedDataset(dataset, mapper),
        batch_size=batch_size,
        sampler=InferenceSampler(len(dataset)),
        drop_last=False,
        **_worker_options(num_workers, prefetch_factor),
    )


def _worker_options(num_workers: int, prefetch_factor: int) -> dict[str, Any]:
    return {
        "num_workers": num_workers,
        "collate_fn": trivial_batch_collator,
        "worker_init_fn": worker_init_reset_seed,
        "pin_memory": torch.cuda.is_available(),
        "persistent_workers": num_workers > 0,
        "prefetch_factor": prefetch_factor if num_workers > 0 else None,
    }
