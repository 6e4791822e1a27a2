"""A generated scene that no training has seen, for demonstrations and examples."""

from __future__ import annotations

import os
from pathlib import Path

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.nuscenes.prepare import prepare_nuscenes

from .generator import VERSION, generate
from .options import SPLITS, SyntheticOptions

#: No data set for training or evaluation has this seed.
HELD_OUT_SEED = 2026


def make_held_out(folder: str | os.PathLike, **options) -> FrameDataset:
    """Writes one scene of the split synth_val with the seed ``HELD_OUT_SEED``, and prepares it.

    Args:
        folder: an empty or new folder, the data root.
        options: further arguments of :class:`SyntheticOptions`, such as ``frames`` and ``rate``.

    Returns:
        The samples of the scene with their annotations.

    Raises:
        ValueError: an option is out of its range, or the folder has other files.
    """
    seeded = SyntheticOptions(scenes_train=0, scenes_val=1, seed=HELD_OUT_SEED, **options)
    generate(os.fspath(folder), seeded)
    split = prepare_nuscenes(dataroot=folder, version=VERSION)[SPLITS[1]]
    return FrameDataset("held_out", split.index, Path(folder))
