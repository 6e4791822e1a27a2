"""Registers data sets in Detectron2's catalogs and builds data loaders of sample dicts."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
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
from fsdbev.structures import ClassSet

from .dataset import FrameDataset
from .index.frame_index import FrameIndex
from .mapper import MultiViewMapper
from .nuscenes import output_folder
from .samplers import ClassBalancedSampler, Draw, EpochSampler, SceneSampler

logger = logging.getLogger(__name__)

#: Number of random samples that are tried as a replacement for a sample that can't be loaded.
_REPLACEMENT_ATTEMPTS = 5


def register_frames(
    *,
    name: str,
    index: str | os.PathLike,
    dataroot: str | os.PathLike,
    label_dir: str | os.PathLike | None = None,
    classes: ClassSet | None = None,
    cameras: Sequence[str] | None = None,
    remedy: str = "write it with write_index, see docs/custom_dataset.md",
    classes_remedy: str = "write the index with these classes, or change model.classes",
    **metadata: Any,
) -> str:
    """Registers a data set in Detectron2's catalogs; replaces a registration of the same name.

    Args:
        name: name of the data set in the catalogs.
        index: path of its index file.
        dataroot: folder that the paths in the index are relative to.
        label_dir: folder of its point labels; None for a data set without point labels.
        classes: the classes that the index must have, such as those of the model; None accepts any.
        cameras: names of the cameras to use; None for all. Training and metrics then leave out
            objects without a 2D box in any of them.
        remedy: last part of the error message when the index file is missing, damaged or of another
            version.
        classes_remedy: last part of the error message when it has other classes.
        metadata: further entries of the data set's metadata.

    Returns:
        ``name``. ``DatasetCatalog.get(name)`` opens the data set as a :class:`FrameDataset`.
    """

    def open_dataset() -> FrameDataset:
        if not Path(index).is_file():
            raise FileNotFoundError(f"{index}: no index of {name}; {remedy}")
        try:
            opened = FrameIndex(index)
        except ValueError as error:
            raise ValueError(f"{error}; {remedy}") from error
        if classes is not None:
            places = {"own": "model.classes", "others": f"the index {index}"}
            classes.check_labels(opened.classes, **places, remedy=classes_remedy)
        MetadataCatalog.get(name).set(thing_classes=list(opened.classes.names))
        labels = None if label_dir is None else Path(label_dir)
        return FrameDataset(name, opened, Path(dataroot), labels, cameras)

    # Detectron2's catalogs refuse a second registration and a changed metadata entry, but one
    # process may build several configs that name the same data set.
    DatasetCatalog.pop(name, None)
    MetadataCatalog.pop(name, None)
    DatasetCatalog.register(name, open_dataset)
    if classes is not None:
        metadata = {"thing_classes": list(classes.names), **metadata}
    MetadataCatalog.get(name).set(dataroot=str(dataroot), **metadata)
    return name


def open_frames(
    *,
    name: str,
    index: str | os.PathLike,
    dataroot: str | os.PathLike,
    label_dir: str | os.PathLike | None = None,
    classes: ClassSet | None = None,
    cameras: Sequence[str] | None = None,
) -> FrameDataset:
    """Registers a data set and opens it; arguments as for :func:`register_frames`.

    Raises:
        FileNotFoundError: the index file does not exist.
        ValueError: the index file is damaged, of another schema version or convention, or of other
            classes or cameras.
    """
    return DatasetCatalog.get(
        register_frames(
            name=name,
            index=index,
            dataroot=dataroot,
            label_dir=label_dir,
            classes=classes,
            cameras=cameras,
        )
    )


def register_nuscenes(
    *,
    dataroot: str | os.PathLike,
    version: str,
    split: str,
    index_dir: str | os.PathLike | None,
    classes: ClassSet | None = None,
    cameras: Sequence[str] | None = None,
) -> str:
    """Registers a prepared nuScenes split under the name ``nuscenes_<version>_<split>``.

    Args:
        dataroot: nuScenes folder, which contains the folder ``version``.
        version: nuScenes version, e.g. ``v1.0-trainval``.
        split: an official split, one from the version's ``splits.json``, or a ``--split-name`` of
            tools/prepare_nuscenes.py.
        index_dir: output folder of tools/prepare_nuscenes.py; None for
            ``<dataroot>/fsdbev/<version>``.
        classes, cameras: see :func:`register_frames`.

    Returns:
        The name, see :func:`register_frames`.
    """
    output = Path(index_dir) if index_dir else output_folder.default_output(dataroot, version)
    arguments = (dataroot, version, split)
    command = output_folder.prepare_command(*arguments, output, classes)
    other_folder = output_folder.prepare_command(*arguments, "FOLDER", classes)
    return register_frames(
        name=f"nuscenes_{version}_{split}",
        index=output_folder.index_path(output, split),
        dataroot=dataroot,
        label_dir=output_folder.label_dir(output),
        classes=classes,
        cameras=cameras,
        remedy=f"make it with: {command}",
        classes_remedy=(
            f"make one of these classes with: {other_folder}, and set dataloader.index_dir to "
            "FOLDER"
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
    classes: ClassSet | None = None,
    cameras: Sequence[str] | None = None,
) -> FrameDataset:
    """Registers a prepared nuScenes split and opens it; arguments as for
    :func:`register_nuscenes`.

    Raises:
        FileNotFoundError: the split is not prepared; the message contains the command to run.
        ValueError: the index file is damaged, of another schema version or convention, or of other
            classes or cameras.
    """
    name = register_nuscenes(
        dataroot=dataroot,
        version=version,
        split=split,
        index_dir=index_dir,
        classes=classes,
        cameras=cameras,
    )
    return DatasetCatalog.get(name)


class SampleError(ValueError):
    """A sample can't be loaded; the message names the sample and the file.

    It takes the message as its only argument, so that PyTorch can raise it again in the main
    process when it occurs in a loader worker.
    """


class MappedDataset(Dataset):
    """Map-style data set of sample dicts.

    An item is a row of ``dataset``, or a :class:`Draw`, whose augmentation is seeded by the draw's
    number.

    Args:
        dataset: a prepared data set.
        mapper: maps a row of ``dataset`` to a sample dict.
        seed: seed of the augmentation.
        max_bad_samples: 0 makes a sample that can't be loaded an error. Above 0, another sample
            replaces it in training and has the original error message under the key ``replaced``;
            the training loop counts the replacements and stops if there are more.

    Raises:
        SampleError: a sample can't be loaded and ``max_bad_samples`` is 0, or the replacements
            can't be loaded either.
    """

    def __init__(
        self,
        dataset: FrameDataset,
        mapper: MultiViewMapper,
        seed: int = 0,
        max_bad_samples: int = 0,
    ) -> None:
        if max_bad_samples < 0:
            raise ValueError(f"max_bad_samples must be at least 0, got {max_bad_samples}")
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
            return self._load_replacement(item.number, error)

    def _load_replacement(self, number: int, bad: SampleError) -> dict[str, Any]:
        """Loads a random sample in place of the one of draw ``number``."""
        error = bad
        for attempt in range(1, 1 + _REPLACEMENT_ATTEMPTS):
            # Seeded by draw and attempt only: the replacement is the same for any number of
            # workers and after a resume.
            generator = self._generator(number, attempt)
            try:
                sample = self._load(int(generator.integers(len(self))), generator)
            except SampleError as next_error:
                error = next_error
                continue
            return {**sample, "replaced": str(bad)}
        raise SampleError(
            f"{bad}; {_REPLACEMENT_ATTEMPTS} replacements can't be loaded either, the last: {error}"
        )

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
    """Builds an endless loader of this rank's share of each batch, a list of sample dicts.

    Args:
        dataset: a prepared data set.
        mapper: a mapper with ``training=True``.
        total_batch_size: samples per batch over all ranks.
        class_balanced: draws samples by CBGS, see :class:`ClassBalancedSampler`; otherwise every
            sample is drawn once per epoch.
        num_workers: worker processes of this rank; 0 loads in the main process.
        prefetch_factor: batches that each worker loads ahead.
        seed: seed of order and augmentation, the same on all ranks; None or a negative number
            draws a random seed and shares it among the ranks.
        max_bad_samples: see :class:`MappedDataset`, which is ``loader.dataset``.

    Returns:
        The loader. To resume a run, set ``loader.sampler.start`` before iterating.

    Raises:
        ValueError: ``total_batch_size`` is not a positive multiple of the number of ranks.
    """
    world_size = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % world_size:
        raise ValueError(
            f"total_batch_size is {total_batch_size}: it must be a positive multiple of the "
            f"{world_size} processes"
        )
    if dataset.cameras is not None:
        text = "%s: cameras %s; objects without a 2D box in any of them are no targets"
        logger.info(text, dataset.name, ", ".join(dataset.cameras))
    _report_gaps(dataset, mapper)
    if class_balanced:
        sampler = ClassBalancedSampler(dataset.classes_with_points(), seed=seed)
    else:
        sampler = EpochSampler(len(dataset), seed=seed)
    return DataLoader(
        MappedDataset(dataset, mapper, sampler.seed, max_bad_samples),
        batch_size=total_batch_size // world_size,
        sampler=sampler,
        drop_last=True,
        # Without its own generator, the loader draws the worker seeds from torch's global generator
        # and so changes the random numbers that the model draws.
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
    """Builds a loader that returns every sample once and in order.

    Each rank gets a contiguous part of the data set, or complete scenes. Evaluation never replaces
    a sample: one that can't be loaded raises :class:`SampleError`.

    Args:
        dataset: a prepared data set.
        mapper: a mapper with ``training=False``.
        batch_size: samples per batch of this rank.
        by_scene: gives each rank complete scenes, see :class:`SceneSampler`. A model that carries
            features from one sample to the next detects the start of a scene by ``scene_token``.
        num_workers, prefetch_factor: as for :func:`build_train_loader`.
    """
    index = dataset.index
    _report_gaps(dataset, mapper)
    sampler = SceneSampler(index.scene_ids) if by_scene else InferenceSampler(len(index))
    return DataLoader(
        MappedDataset(dataset, mapper),
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        # Periodic evaluation iterates over this loader many times; training iterates once.
        persistent_workers=num_workers > 0,
        **_worker_options(num_workers, prefetch_factor),
    )


def _report_gaps(dataset: FrameDataset, mapper: MultiViewMapper) -> None:
    """Logs how many samples lack an earlier frame because of a gap in time."""
    # A mapper of one's own may choose its frames otherwise.
    gaps = isinstance(mapper, MultiViewMapper) and dataset.index.gap_report(**mapper.frame_rule)
    if gaps:
        logger.warning("%s: %s", dataset.name, gaps)


def _worker_options(num_workers: int, prefetch_factor: int) -> dict[str, Any]:
    return {
        "num_workers": num_workers,
        "collate_fn": trivial_batch_collator,
        "worker_init_fn": _init_worker,
        "pin_memory": torch.cuda.is_available(),
        "prefetch_factor": prefetch_factor if num_workers > 0 else None,
    }


def _init_worker(worker_id: int) -> None:
    """Seeds a loader worker, keeps OpenCV to its thread, and excludes inherited objects from its
    garbage collection."""
    # OpenCV would start a thread per core in each worker, as PyTorch does not.
    cv2.setNumThreads(0)
    # A collection writes to the header of every object that it visits. The kernel then copies the
    # memory pages that the worker shares with its parent since the fork.
    gc.freeze()
    worker_init_reset_seed(worker_id)
