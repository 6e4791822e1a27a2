"""Boxes of many samples as flat arrays, so that metrics process all boxes at once.

Shapes: N boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsdbev.structures import Columns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class BoxArrays(Columns):
    """N boxes in the global frame, with nuScenes' conventions.

    Attributes:
        sample: (N,) position of each box's sample in a list of samples.
        class_id: (N,) index into ``DetectionTask.names``.
        center: (N, 3) box centres, metres.
        size: (N, 3) width, length, height, metres.
        rotation: (N, 4) quaternions w, x, y, z.
        velocity: (N, 2) vx, vy, m/s; NaN where unknown.
        attribute: (N,) index into ``DetectionTask.attributes``.
        score: (N,) confidences; -1 for ground truth.
    """

    sample: Ints
    class_id: Ints
    center: Floats
    size: Floats
    rotation: Floats
    velocity: Floats
    attribute: Ints
    score: Floats

    def select(self, rows: NDArray) -> BoxArrays:
        """Returns the boxes that a boolean mask or an index array selects."""
        return self[rows]


def submission_arrays(
    results: Mapping[str, Sequence[dict[str, Any]]], names: Sequence[str], attributes: Sequence[str]
) -> BoxArrays:
    """Converts submission boxes to arrays, in the order of the submission.

    Args:
        results: checked boxes by sample token (see ``submission.py``).
        names: class names in the order of the class ids.
        attributes: attribute names in the order of their ids.

    Raises:
        ValueError: a class or attribute name is not one of these.
    """
    boxes = list(chain.from_iterable(results.values()))
    counts = np.array([len(sample) for sample in results.values()], np.int64)

    def column(key: str) -> Iterable[Any]:
        return map(itemgetter(key), boxes)

    return BoxArrays(
        sample=np.repeat(np.arange(len(counts)), counts),
        class_id=positions(column("detection_name"), names),
        center=rows(column("translation"), 3),
        size=rows(column("size"), 3),
        rotation=rows(column("rotation"), 4),
        velocity=rows(column("velocity"), 2),
        attribute=positions(column("attribute_name"), attributes),
        score=np.fromiter(column("detection_score"), np.float64),
    )


def rows(vectors: Iterable[Sequence[float]], length: int) -> Floats:
    """Stacks N vectors of ``length`` numbers each into an (N, length) array."""
    # fromiter fills the array directly: no list of millions of numbers is built in between.
    return np.fromiter(chain.from_iterable(vectors), np.float64).reshape(-1, length)


def positions(names: Iterable[str], known: Sequence[str]) -> Ints:
    """Returns the (N,) index of each name in ``known``.

    Raises:
        ValueError: a name is not in ``known``.
    """
    index = {name: position for position, name in enumerate(known)}
    try:
        return np.fromiter(map(index.__getitem__, names), np.int64)
    except KeyError as error:
        raise ValueError(
            f"unknown name {error}; the names are {[name for name in known if name]}"
        ) from error
