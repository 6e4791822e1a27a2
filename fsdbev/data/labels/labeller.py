"""Computes the point labels of a sample from its sweep, its neighbours' sweeps and pseudo points.

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

from .intensification import combine_frames, pseudo_points
from .point_labels import BACKGROUND, GROUPS, PointLabels
from .sweeps import VisiblePoints, WorldPoints, project_points, sweep_points

#: Steps after which ``LabelStatistics.without_points`` counts the objects without points.
STAGES = ("sweep", "frame combination", "pseudo points")


@dataclass(frozen=True)
class LabelStatistics:
    """Counts of one or more samples; ``+`` adds them.

    Attributes:
        samples: number of samples.
        points: (G, C + 1) labelled pixels by group and class, background last. A LiDAR point in the
            images of two cameras counts twice.
        objects: (C,) number of annotations.
        without_points: (len(STAGES), C) number of annotations without a label point in any camera
            after each stage.
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
        """Returns one sentence on the objects without points, for logs."""
        without = self.without_points.sum(axis=1)
        counts = [f"{n} after {stage}" for stage, n in zip(STAGES, without, strict=True)]
        total = f"{self.objects.sum()} objects in {self.samples} samples"
        return f"{total}; without a point: {', '.join(counts)}"

    def to_json(self) -> str:
        """Returns the counts as one line of JSON, see :meth:`from_json`."""
        values = (self.points, self.objects, self.without_points)
        return json.dumps([self.samples, *(value.tolist() for value in values)])

    @classmethod
    def from_json(cls, text: str, num_classes: int) -> LabelStatistics:
        """Reads the output of :meth:`to_json`.

        Args:
            text: one line of JSON.
            num_classes: C.

        Raises:
            ValueError: ``text`` has another format or arrays of other shapes.
        """
        try:
            samples, *values = json.loads(text)
            read = cls(int(samples), *(np.array(value, np.int64) for value in values))
            # The sum raises ValueError unless the shapes are the expected ones.
            return read + cls.zero(num_classes)
        except (OverflowError, RecursionError, TypeError) as error:
            raise ValueError(f"not statistics of point labels ({error}): {text!r}") from error

    @classmethod
    def zero(cls, num_classes: int) -> LabelStatistics:
        """Returns the counts of no samples."""
        shapes = ((len(GROUPS), num_classes + 1), (num_classes,), (len(STAGES), num_classes))
        return cls(0, *(np.zeros(shape, np.int64) for shape in shapes))


class PointLabeller:
    """Computes the point labels of the rows of an index.

    It is fastest on consecutive rows, because neighbouring rows need the same sweeps.

    Args:
        index: samples with annotations.
        dataroot: folder that the paths in the index are relative to.

    Raises:
        ValueError: the index has an invalid table of lidarseg classes.
    """

    def __init__(self, index: FrameIndex, dataroot: str | os.PathLike) -> None:
        self.index = index
        self.dataroot = dataroot
        self.lidarseg_classes = _lidarseg_classes(index)
        # Size 3: the previous, the current and the next sweep of consecutive rows.
        self._sweep = lru_cache(maxsize=3)(self._read_sweep)

    def __call__(self, row: int) -> tuple[list[PointLabels], LabelStatistics]:
        """Returns the labels of a sample, one entry per camera, and their statistics.

        Raises:
            FileNotFoundError, ValueError: a point or label file is missing or malformed.
        """
        frame, annotations = self.index[row], self.index.annotations(row)
        sweep = self._sweep(row)
        neighbours = [self._sweep(n) for n in (frame.previous, frame.next) if n >= 0]
        combined = combine_frames(frame, annotations, neighbours, self.index.classes)
        in_sweep, in_combined = project_points(sweep, frame), project_points(combined, frame)
        unlabelled = _without_points(sweep, in_sweep, len(annotations))
        still_unlabelled = unlabelled & _without_points(combined, in_combined, len(annotations))
        labels, has_pseudo = [], np.zeros(len(annotations), np.bool_)
        for camera, corners in enumerate(frame.corners_in_cameras(annotations)):
            intrinsics, image_size = frame.intrinsics[camera], frame.image_sizes[camera]
            pseudo, owners = pseudo_points(corners, annotations, intrinsics, image_size, unlabelled)
            # Two groups, because objects that frame combination labels need a pseudo point only in
            # trainings without frame combination.
            always = still_unlabelled[owners]
            lidar = (in_sweep[camera].pixels, in_combined[camera].pixels)
            labels.append(PointLabels(*lidar, pseudo[always], pseudo[~always]))
            has_pseudo[owners[always]] = True
        without = np.stack([unlabelled, still_unlabelled, still_unlabelled & ~has_pseudo])
        return labels, _statistics(labels, annotations, without, len(self.index.classes))

    def _read_sweep(self, row: int) -> WorldPoints:
        frame, annotations = self.index[row], self.index.annotations(row)
        return sweep_points(frame, annotations, self.dataroot, self.lidarseg_classes)


def _lidarseg_classes(index: FrameIndex) -> list[int]:
    text = index.info.get("lidarseg_classes", "[]")
    try:
        classes = json.loads(text)
        limit = len(index.classes)
        valid = all(isinstance(i, int) and BACKGROUND <= i < limit for i in classes)
    except (RecursionError, TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f"{index.path}: lidarseg_classes must be a list of class ids, got {text!r}"
        )
    return classes


def _without_points(
    points: WorldPoints, visible: list[VisiblePoints], num_objects: int
) -> NDArray[np.bool_]:
    """Returns the (M,) mask of objects whose boxes contain no point that is in a camera image."""
    index = np.concatenate([camera.index for camera in visible])
    return ~points.hits.boxes_with(index, num_objects)


def _statistics(
    labels: list[PointLabels],
    annotations: Annotations,
    without: NDArray[np.bool_],
    classes: int,
) -> LabelStatistics:
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
