"""Point labels of a row of an index: the sample's sweep, its neighbours' points, pseudo points.

Shapes: M annotations, N cameras, G groups of ``PointLabels``, C classes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.index.records import Annotations
from fsdbev.structures import CLASS_NAMES

from .intensification import combine_frames, pseudo_points
from .point_labels import BACKGROUND, GROUPS, PointLabels
from .sweeps import SeenPoints, WorldPoints, project, sweep_points

#: What ``LabelStatistics.without_points`` counts after: the sweep alone, and each strategy.
STAGES = ("sweep", "frame combination", "pseudo points")


@dataclass(frozen=True)
class LabelStatistics:
    """Numbers of one or more samples; they add up.

    Attributes:
        samples: how many.
        points: (G, C + 1) labelled pixels of each group and class, background last. A LiDAR point
            that two cameras see counts twice.
        objects: (C,) annotations.
        without_points: (len(STAGES), C) annotations of which no camera has a point: none that it
            sees is inside their box, and there is no pseudo point for them.
    """

    samples: int
    points: NDArray[np.int64]
    objects: NDArray[np.int64]
    without_points: NDArray[np.int64]

    def __add__(self, other: LabelStatistics) -> LabelStatistics:
        return LabelStatistics(
            self.samples + other.samples,
            self.points + other.points,
            self.objects + other.objects,
            self.without_points + other.without_points,
        )

    def summary(self) -> str:
        """One sentence on the objects without points."""
        without = self.without_points.sum(axis=1)
        counts = [f"{n} after {stage}" for stage, n in zip(STAGES, without, strict=True)]
        total = f"{self.objects.sum()} objects in {self.samples} samples"
        return f"{total}; without a point: {', '.join(counts)}"

    def to_json(self) -> str:
        """One line of text."""
        values = (self.points, self.objects, self.without_points)
        return json.dumps([self.samples, *(value.tolist() for value in values)])

    @classmethod
    def from_json(cls, text: str) -> LabelStatistics:
        """What ``to_json`` gave; ValueError if it is not."""
        try:
            samples, *values = json.loads(text)
            read = cls(int(samples), *(np.array(value, np.int64) for value in values))
            return read + cls.zero()  # an error if the shapes are others
        except (OverflowError, RecursionError, TypeError) as error:
            raise ValueError(f"no statistics of point labels ({error}): {text!r}") from error

    @classmethod
    def zero(cls) -> LabelStatistics:
        """Of no samples."""
        classes = len(CLASS_NAMES)
        shapes = ((len(GROUPS), classes + 1), (classes,), (len(STAGES), classes))
        return cls(0, *(np.zeros(shape, np.int64) for shape in shapes))


class PointLabeller:
    """Makes the point labels of an index's rows. Neighbouring rows share sweeps: it is quickest in
    the index's order.

    Args:
        index: samples with annotations.
        dataroot: folder that the index's paths start from.
    """

    def __init__(self, index: FrameIndex, dataroot: str | os.PathLike) -> None:
        self.index = index
        self.dataroot = dataroot
        self.lidarseg_classes = _lidarseg_classes(index)
        self._sweep = lru_cache(maxsize=3)(self._read_sweep)  # the one before, this, the next

    def __call__(self, row: int) -> tuple[list[PointLabels], LabelStatistics]:
        """Labels of a sample, an entry a camera, and their numbers.

        Raises:
            FileNotFoundError, ValueError: a point or label file is missing or malformed.
        """
        frame, annotations = self.index[row], self.index.annotations(row)
        sweep = self._sweep(row)
        neighbours = [self._sweep(n) for n in (frame.previous, frame.next) if n >= 0]
        combined = combine_frames(frame, annotations, neighbours)
        own, added = project(sweep, frame), project(combined, frame)
        bare = _without_points(sweep, own, len(annotations))
        still_bare = bare & _without_points(combined, added, len(annotations))
        labels, helped = [], np.zeros(len(annotations), np.bool_)
        for camera, corners in enumerate(frame.corners_in_cameras(annotations)):
            pseudo, owners = pseudo_points(
                corners, annotations, frame.intrinsics[camera], frame.image_sizes[camera], bare
            )
            always = still_bare[owners]
            groups = (own[camera].pixels, added[camera].pixels, pseudo[always], pseudo[~always])
            labels.append(PointLabels(*groups))
            helped[owners[always]] = True
        without = np.stack([bare, still_bare, still_bare & ~helped])
        return labels, _statistics(labels, annotations, without)

    def _read_sweep(self, row: int) -> WorldPoints:
        frame, annotations = self.index[row], self.index.annotations(row)
        return sweep_points(frame, annotations, self.dataroot, self.lidarseg_classes)


def _lidarseg_classes(index: FrameIndex) -> list[int]:
    text = index.info.get("lidarseg_classes", "[]")
    try:
        classes = json.loads(text)
        fine = all(isinstance(i, int) and BACKGROUND <= i < len(CLASS_NAMES) for i in classes)
    except (RecursionError, TypeError, ValueError):
        fine = False
    if not fine:
        raise ValueError(f"{index.path}: lidarseg_classes is no list of class ids: {text!r}")
    return classes


def _without_points(
    points: WorldPoints, seen: list[SeenPoints], num_objects: int
) -> NDArray[np.bool_]:
    """(M,) objects in whose box no camera sees any of the points."""
    index = np.concatenate([camera.index for camera in seen])
    return ~points.hits.boxes_with(index, num_objects)


def _statistics(
    labels: list[PointLabels], annotations: Annotations, without: NDArray[np.bool_]
) -> LabelStatistics:
    classes = len(CLASS_NAMES)
    groups = zip(*(camera.groups for camera in labels), strict=True)
    points = []
    for group in groups:
        class_ids = np.concatenate([part.class_ids for part in group])
        class_ids = np.where(class_ids == BACKGROUND, classes, class_ids)
        points.append(np.bincount(class_ids, minlength=classes + 1))
    return LabelStatistics(
        samples=1,
        points=np.stack(points),
        objects=np.bincount(annotations.class_ids, minlength=classes),
        without_points=np.stack(
            [np.bincount(annotations.class_ids[mask], minlength=classes) for mask in without]
        ),
    )
