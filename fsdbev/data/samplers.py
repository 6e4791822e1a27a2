"""Samplers. Those of training are endless, the same for a seed, split over ranks as Detectron2's.

Every draw has a number that counts the draws of all ranks. Its random augmentation is seeded by
that number, so a run is the same for any number of loader workers and can start again at any draw.

For evaluation there is Detectron2's InferenceSampler, and one that keeps scenes whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from fsdbev.d2.utils import comm


class Draw(NamedTuple):
    """One training sample to load: its row, and the number of the draw since training began."""

    row: int
    number: int


class EpochSampler(Sampler):
    """Draws of all rows, shuffled anew each epoch, without end. Rank r of R gets every R-th draw
    from the r-th on, as with Detectron2's TrainingSampler.

    Args:
        size: number of rows.
        seed: the same on all ranks; None or a negative one draws a shared one.
        start: number of the first draw, to go on where a run stopped.
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
        """Draws in an epoch, over all ranks."""
        return self.size

    def epoch_rows(self, epoch: int) -> NDArray[np.int64]:
        """(epoch_size,) rows of an epoch in order."""
        return self._generator(epoch).permutation(self.size)

    def __iter__(self) -> Iterator[Draw]:
        number, current, rows = self.start + self.rank, None, None
        while True:
            epoch, place = divmod(number, self.epoch_size)
            if epoch != current:
                current, rows = epoch, self.epoch_rows(epoch)
            yield Draw(int(rows[place]), number)
            number += self.world_size

    def _generator(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, epoch))


class ClassBalancedSampler(EpochSampler):
    """Class-balanced grouping and sampling (CBGS, Zhu et al. 2019).

    A sample counts once for every class in it. Of the sum of these counts, each class that occurs
    at all gets an equal share of draws, with replacement, among the samples it is in.

    Args:
        classes: (rows, classes) bool, which classes are in which row.
        seed, start: as for EpochSampler.
    """

    def __init__(
        self, classes: NDArray[np.bool_], *, seed: int | None = None, start: int = 0
    ) -> None:
        super().__init__(len(classes), seed=seed, start=start)
        self._rows = [np.flatnonzero(column) for column in classes.T if column.any()]
        if not self._rows:
            raise ValueError("no object of any class to balance by; set class_balanced=False")
        self._share = sum(len(rows) for rows in self._rows) // len(self._rows)

    @property
    def epoch_size(self) -> int:
        return self._share * len(self._rows)

    def epoch_rows(self, epoch: int) -> NDArray[np.int64]:
        generator = self._generator(epoch)
        drawn = [generator.choice(rows, self._share) for rows in self._rows]
        return generator.permutation(np.concatenate(drawn))


class SceneSampler(Sampler):
    """Every row once over all ranks, each rank whole scenes, one after the other, a scene's rows in
    their order: for models that carry features from a sample to the next.

    The longest scenes are dealt first, each to the rank with the fewest rows, so that ranks differ
    by one scene at most. With more ranks than scenes some ranks get none.

    Args:
        scene_ids: (rows,) number of the scene of every row.
    """

    def __init__(self, scene_ids: NDArray[np.int64]) -> None:
        by_scene = np.argsort(scene_ids, kind="stable")
        ends = np.flatnonzero(np.diff(scene_ids[by_scene])) + 1
        rows_of_rank = [0] * comm.get_world_size()
        mine = []
        for scene in sorted(np.split(by_scene, ends), key=len, reverse=True):
            rank = rows_of_rank.index(min(rows_of_rank))
            rows_of_rank[rank] += len(scene)
            if rank == comm.get_rank():
                mine.append(scene.tolist())
        self._rows = [row for scene in sorted(mine) for row in scene]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)
