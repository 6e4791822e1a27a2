"""Data sets in Detectron2's catalogs, and loaders of lists of sample dicts."""

from __future__ import annotations

import gc
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
from .index.frame_index import FrameIndex
from .mapper import MultiViewMapper
from .nuscenes import output_folder
from .samplers import ClassBalancedSampler, Draw, EpochSampler, SceneSampler

#: So many samples are tried in place of one that can't be loaded.
_ATTEMPTS = 5


def register_frames(
    *,
    name: str,
    index: str | os.PathLike,
    dataroot: str | os.PathLike,
    label_dir: str | os.PathLike | None = None,
    remedy: str = "write it with write_index, see docs/custom_dataset.md",
    **facts: Any,
) -> str:
    """Registers a data set in Detectron2's catalogs; a registration of that name is replaced.

    Args:
        name: in the catalogs.
        index: its index file.
        dataroot: folder that the index's paths start from.
        label_dir: folder of its point labels; None: it has none.
        remedy: what to do where the index is missing.
        facts: further metadata.

    Returns:
        the name. ``DatasetCatalog.get(name)`` opens it as a :class:`FrameDataset`.
    """

    def open_dataset() -> FrameDataset:
        if not Path(index).is_file():
            raise FileNotFoundError(f"{index}: no index of {name}; {remedy}")
        labels = None if label_dir is None else Path(label_dir)
        return FrameDataset(name, FrameIndex(index), Path(dataroot), labels)

    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)
    DatasetCatalog.register(name, open_dataset)
    facts = {"thing_classes": list(CLASS_NAMES), "dataroot": str(dataroot), **facts}
    MetadataCatalog.get(name).set(**facts)
    return name


def open_frames(
    *,
    name: str,
    index: str | os.PathLike,
    dataroot: str | os.PathLike,
    label_dir: str | os.PathLike | None = None,
) -> FrameDataset:
    """Registers a data set (see :func:`register_frames`) and opens it.

    Raises:
        FileNotFoundError: there is no such index.
        ValueError: it is not whole, or of another schema or convention.
    """
    return DatasetCatalog.get(
        register_frames(name=name, index=index, dataroot=dataroot, label_dir=label_dir)
    )


def register_nuscenes(
    *, dataroot: str | os.PathLike, version: str, split: str, index_dir: str | os.PathLike | None
) -> str:
    """Registers a prepared split (see :func:`register_frames`) as ``nuscenes_<version>_<split>``.

    Args:
        dataroot: nuScenes folder, which holds the folder ``version``.
        version: e.g. ``v1.0-trainval``.
        split: an official split or one of the version's ``splits.json``.
        index_dir: what tools/prepare_nuscenes.py wrote; None: ``<dataroot>/fsdbev/<version>``.
    """
    output = Path(index_dir) if index_dir else output_folder.default_output(dataroot, version)
    return register_frames(
        name=f"nuscenes_{version}_{split}",
        index=output_folder.index_path(output, split),
        dataroot=dataroot,
        label_dir=output_folder.label_dir(output),
        remedy=(
            f"make it with: python tools/prepare_nuscenes.py --dataroot {dataroot} "
            f"--version {version} --splits {split} --output {output}"
        ),
        evaluator_type="nuscenes",
        version=version,
        split=split,
        index_dir=str(output),
    )


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


class SampleError(ValueError):
    """A sample can't be loaded; the message names it and the file. One argument, so that it reaches
    the main process from a loader's worker as it is."""


class MappedDataset(Dataset):
    """Samples of a data set by row, or by :class:`Draw` with augmentation seeded by its number.

    Args:
        dataset: a prepared data set.
        mapper: loads its rows.
        seed: of the augmentation.
        max_bad_samples: 0: a sample that can't be loaded is an error. More: another one takes its
            place in a training, and says so under the key ``replaced``. Counting them, and ending
            the training where there are more, is the training loop's.

    Raises:
        SampleError: a sample can't be loaded, and no other may take its place or could.
    """

    def __init__(
        self,
        dataset: FrameDataset,
        mapper: MultiViewMapper,
        seed: int = 0,
        max_bad_samples: int = 0,
    ) -> None:
        if max_bad_samples < 0:
            raise ValueError(f"max_bad_samples starts at 0, got {max_bad_samples}")
        self.dataset = dataset
        self.mapper = mapper
        self.seed = seed
        self.max_bad_samples = max_bad_samples

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: Draw | int) -> dict[str, Any]:
        if not isinstance(item, Draw):
            return self._load(item)
        try:
            return self._load(item.row, self._generator(item.number))
        except SampleError as error:
            if not self.max_bad_samples:
                raise
            return self._another(item.number, error)

    def _another(self, number: int, bad: SampleError) -> dict[str, Any]:
        """In place of a draw's sample: one that depends on nothing but the draw's number."""
        error = bad
        for attempt in range(1, 1 + _ATTEMPTS):
            generator = self._generator(number, attempt)
            try:
                sample = self._load(int(generator.integers(len(self))), generator)
            except SampleError as next_error:
                error = next_error
                continue
            return {**sample, "replaced": str(bad)}
        raise SampleError(f"{bad}; {_ATTEMPTS} others in its place neither, the last: {error}")

    def _generator(self, *number: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *number))

    def _load(self, row: int, generator: np.random.Generator | None = None) -> dict[str, Any]:
        try:
            return self.mapper(self.dataset, row, generator)
        except (OSError, ValueError) as error:
            token = self.dataset.index[row].sample_token
            raise SampleError(f"sample {token}: {error}") from error


def build_train_loader(
    *,
    dataset: FrameDataset,
    mapper: MultiViewMapper,
    total_batch_size: int,
    class_balanced: bool = True,
    num_workers: int = 4,
    prefetch_factor: int = 2,
    seed: int | None = None,
    max_bad_samples: int = 0,
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
        max_bad_samples: see :class:`MappedDataset`, which is ``loader.dataset``.

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
        MappedDataset(dataset, mapper, sampler.seed, max_bad_samples),
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
    by_scene: bool = False,
    num_workers: int = 4,
    prefetch_factor: int = 2,
) -> DataLoader:
    """Loader of every sample once, in order; each rank gets a contiguous part, or whole scenes.
    None is ever skipped: one that can't be loaded is a :class:`SampleError`.

    Args:
        dataset: a prepared data set.
        mapper: with ``training=False``.
        batch_size: of this rank.
        by_scene: each rank gets whole scenes, see :class:`SceneSampler`. A model that carries
            features from a sample to the next sees where a scene begins by ``scene_token``.
        num_workers, prefetch_factor: as for :func:`build_train_loader`.
    """
    index = dataset.index
    sampler = SceneSampler(index.scene_ids) if by_scene else InferenceSampler(len(index))
    return DataLoader(
        MappedDataset(dataset, mapper),
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        persistent_workers=num_workers > 0,  # for the next time that it is iterated over
        **_worker_options(num_workers, prefetch_factor),
    )


def _worker_options(num_workers: int, prefetch_factor: int) -> dict[str, Any]:
    return {
        "num_workers": num_workers,
        "collate_fn": trivial_batch_collator,
        "worker_init_fn": _start_worker,
        "pin_memory": torch.cuda.is_available(),
        "prefetch_factor": prefetch_factor if num_workers > 0 else None,
    }


def _start_worker(worker_id: int) -> None:
    """Seeds a worker, and keeps what it was started with out of its garbage collections: one writes
    to every object that it looks at, and a page that is written to is no longer shared."""
    gc.freeze()
    worker_init_reset_seed(worker_id)
