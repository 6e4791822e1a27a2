"""Boxes of many samples in little memory: as JSON text, and as flat arrays for the metrics.

Shapes: N boxes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsdbev.structures import Columns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class EncodedSubmission(Mapping[str, list[dict[str, Any]]]):
    """Mapping of sample token -> submission boxes (see ``submission.py``) that stores JSON text.

    A box as a dict is about thirty Python objects and an evaluation has millions of boxes; as text
    all boxes of a sample are one object. Every access decodes the text again.

    Attributes:
        texts: sample token -> JSON list of the sample's boxes.
    """

    def __init__(self, texts: Mapping[str, bytes] | None = None) -> None:
        self.texts = dict(texts or {})

    def add(self, sample_token: str, boxes: Sequence[dict[str, Any]]) -> None:
        """Adds the boxes of a sample; keeps the earlier ones where the sample is present."""
        if sample_token not in self.texts:
            self.texts[sample_token] = json.dumps(boxes).encode()

    def in_order(self, sample_tokens: Sequence[str]) -> EncodedSubmission:
        """Returns the boxes of ``sample_tokens``, in this order."""
        return EncodedSubmission({token: self.texts[token] for token in sample_tokens})

    def __getitem__(self, sample_token: str) -> list[dict[str, Any]]:
        return json.loads(self.texts[sample_token])

    # Mapping's own __contains__ would decode the boxes to find out whether they exist.
    def __contains__(self, sample_token: object) -> bool:
        return sample_token in self.texts

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)


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
