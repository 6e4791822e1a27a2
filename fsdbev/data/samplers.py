"""Samplers for training and evaluation.

Training samplers are endless, depend on the seed only, and are split over ranks as in Detectron2.
Every draw has a number, counted over all ranks, which seeds its augmentation. A run is therefore
the same for any number of loader workers and can resume at any draw.

Evaluation uses Detectron2's InferenceSampler, or :class:`SceneSampler`, which keeps the samples of
a scene on one rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from fsdbev.d2.utils import comm


class Draw(NamedTuple):
    """A training sample to load.

    Attributes:
        row: row in the index.
        number: number of the draw since the start of training, counted over all ranks.
    """

    row: int
    number: int


class EpochSampler(Sampler):
    """Endless sampler that draws every row once per epoch, shuffled.

    Rank r of R gets the draws r, r + R, r + 2R, ..., as with Detectron2's TrainingSampler.

    Args:
        size: number of rows.
        seed: seed of the order, the same on all ranks; None or a negative number draws a random
            seed and shares it among the ranks.
        start: number of the first draw, to resume a run.

    Raises:
        ValueError: ``size`` is below 1.
    """

    def __init__(self, size: int, *, seed: int | None = None, start: int = 0) -> None:
        if size < 1:
            raise ValueError(f"a sampler needs at least one row, got {size}")
        self.size = int(size)
        self.seed = comm.shared_random_seed() if seed is None or seed < 0 else int(seed)
        self.start = start
        self.rank = comm.get_rank()
        self.world_size = comm.get_world_size()

    @property
    def epoch_size(self) -> int:
        """Number of draws per epoch over all ranks."""
        return self.size

    def epoch_rows(self, epoch: int) -> NDArray[np.int64]:
        """Returns the rows of an epoch in the order of the draws, (epoch_size,)."""
        return self._generator(epoch).permutation(self.size)

    def __iter__(self) -> Iterator[Draw]:
        number, current, rows = self.start + self.rank, None, None
        while True:
            epoch, position = divmod(number, self.epoch_size)
            if epoch != current:
                current, rows = epoch, self.epoch_rows(epoch)
            yield Draw(int(rows[position]), number)
            number += self.world_size

    def _generator(self, epoch: int) -> np.random.Generator:
        # A generator per epoch: a resumed run computes its epoch without replaying earlier ones.
        return np.random.default_rng((self.seed, epoch))


class ClassBalancedSampler(EpochSampler):
    """Endless sampler with class-balanced grouping and sampling (CBGS, Zhu et al., "Class-balanced
    Grouping and Sampling for Point Cloud 3D Object Detection", arXiv:1908.09492).

    A sample is counted once for each class in it. The sum of these counts over all classes is the
    length of an epoch, which is shared evenly (rounded down) among the classes that occur in the
    data set. Each class draws its share with replacement from the samples that contain it.

    Args:
        classes: (rows, classes) bool, True where a row has an object of the class.
        seed, start: as for :class:`EpochSampler`.

    Raises:
        ValueError: no row has an object of any class.
    """

    def __init__(
        self, classes: NDArray[np.bool_], *, seed: int | None = None, start: int = 0
    ) -> None:
        super().__init__(len(classes), seed=seed, start=start)
        self._rows = [np.flatnonzero(column) for column in classes.T if column.any()]
        if not self._rows:
            raise ValueError("class balancing needs annotated objects; set class_balanced=False")
        self._share = sum(len(rows) for rows in self._rows) // len(self._rows)

    @property
    def epoch_size(self) -> int:
        return self._share * len(self._rows)

    def epoch_rows(self, epoch: int) -> NDArray[np.int64]:
        generator = self._generator(epoch)
        # Classes in ascending order, then the shuffle: this order of draws defines an epoch.
        drawn = [generator.choice(rows, self._share) for rows in self._rows]
        return generator.permutation(np.concatenate(drawn))


class SceneSampler(Sampler):
    """Sampler of every row once, with all rows of a scene on one rank and in order.

    It serves models that carry features from one sample to the next. Scenes are assigned in order
    of decreasing length, each to the rank with the fewest rows, so that the ranks' numbers of rows
    differ by at most one scene. If there are more ranks than scenes, some ranks get no rows.

    Args:
        scene_ids: (rows,) number of the scene of every row.
    """

    def __init__(self, scene_ids: NDArray[np.int64]) -> None:
        # Stable, so that the rows of a scene keep their order in time.
        by_scene = np.argsort(scene_ids, kind="stable")
        ends = np.flatnonzero(np.diff(scene_ids[by_scene])) + 1
        rows_of_rank = [0] * comm.get_world_size()
        assigned = []
        for scene in sorted(np.split(by_scene, ends), key=len, reverse=True):
            rank = rows_of_rank.index(min(rows_of_rank))
            rows_of_rank[rank] += len(scene)
            if rank == comm.get_rank():
                assigned.append(scene.tolist())
        self._rows = [row for scene in sorted(assigned) for row in scene]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)
