"""Boxes of many samples as arrays, for metrics that handle all of them at once.

Shapes: N boxes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES, DETECTION_NAMES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: What ``BoxArrays.attribute`` indexes; "" is none.
ATTRIBUTES = ("", *ATTRIBUTE_NAMES)
#: What ``BoxArrays.class_id`` indexes.
CLASSES = tuple(DETECTION_NAMES)


@dataclass(frozen=True)
class BoxArrays:
    """N boxes in the global frame, as nuScenes writes them.

    Attributes:
        sample: (N,) which sample each is of, as a position in a list of samples.
        class_id: (N,) index into ``CLASSES``.
        center: (N, 3) metres.
        size: (N, 3) width, length, height in metres.
        rotation: (N, 4) quaternions w, x, y, z.
        velocity: (N, 2) m/s; NaN where it is not known.
        attribute: (N,) index into ``ATTRIBUTES``.
        score: (N,) confidences; -1 for true boxes.
    """

    sample: Ints
    class_id: Ints
    center: Floats
    size: Floats
    rotation: Floats
    velocity: Floats
    attribute: Ints
    score: Floats

    def __len__(self) -> int:
        return len(self.sample)

    def select(self, rows: NDArray) -> BoxArrays:
        """The boxes of a mask or of indices."""
        return BoxArrays(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})


def arrays_of_submission(results: Mapping[str, Sequence[dict[str, Any]]]) -> BoxArrays:
    """Checked submission boxes by sample (see ``submission.py``), in the submission's order."""
    boxes = list(chain.from_iterable(results.values()))
    counts = np.array([len(sample) for sample in results.values()], np.int64)

    def column(key: str) -> Iterable[Any]:
        return map(itemgetter(key), boxes)

    return BoxArrays(
        sample=np.repeat(np.arange(len(counts)), counts),
        class_id=positions(column("detection_name"), CLASSES),
        center=rows(column("translation"), 3),
        size=rows(column("size"), 3),
        rotation=rows(column("rotation"), 4),
        velocity=rows(column("velocity"), 2),
        attribute=positions(column("attribute_name"), ATTRIBUTES),
        score=np.fromiter(column("detection_score"), np.float64),
    )


def rows(vectors: Iterable[Sequence[float]], length: int) -> Floats:
    """(N, length) of N vectors of that length."""
    return np.fromiter(chain.from_iterable(vectors), np.float64).reshape(-1, length)


def positions(names: Iterable[str], known: Sequence[str]) -> Ints:
    """(N,) where each name stands in ``known``.

    Raises:
        ValueError: a name is not in it.
    """
    index = {name: position for position, name in enumerate(known)}
    try:
        return np.fromiter(map(index.__getitem__, names), np.int64)
    except KeyError as error:
        raise ValueError(f"{error} is none of nuScenes' {[n for n in known if n]}") from error
