"""Classes and thresholds of an evaluation, ground-truth boxes, and the filter for evaluated boxes.

The rules are nuScenes' (devkit, ``eval/detection/README.md``, "Preprocessing"): a box must be
within its class's range of the ego vehicle; a ground-truth box needs at least one lidar or radar
point.

Shapes: C classes, S samples, N boxes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.data_classes import DetectionConfig
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.records import Annotations, Frame
from fsdbev.structures import ClassSet

from .box_arrays import BoxArrays, Floats, Ints

#: Distance thresholds, weights and ranges of nuScenes' official detection benchmark.
DEVKIT_CONFIG = "detection_cvpr_2019"
#: Whether objects without a 2D box in any chosen camera are left out of the ground truth.
UnseenObjects = Literal["ignore", "count"]


@dataclass(frozen=True)
class DetectionTask:
    """Classes and thresholds of an evaluation.

    Attributes:
        config: the devkit's thresholds, with the range of each class.
        attributes: attribute names, indexed by ``BoxArrays.attribute``; the first, "", stands for
            no attribute.
        undefined: class -> TP errors that it does not have.
        half_turn: classes whose headings are compared up to half a turn.
    """

    config: DetectionConfig
    attributes: tuple[str, ...]
    undefined: Mapping[str, tuple[str, ...]]
    half_turn: tuple[str, ...] = ()

    @classmethod
    def of(cls, classes: ClassSet) -> DetectionTask:
        """Returns the task of any classes. Classes without attributes have no attribute error."""
        config = config_factory(DEVKIT_CONFIG)
        # The devkit's constructor accepts only nuScenes' classes, which keep the devkit's order.
        if config.class_range != classes.ranges:
            config.class_range = dict(classes.ranges)
        config.class_names = list(config.class_range)
        own = [name for pair in classes.attributes.values() for name in pair]
        return cls(
            config,
            attributes=tuple(dict.fromkeys(["", *own, *classes.static_attributes])),
            undefined={n: ("attr_err",) for n, pair in classes.attributes.items() if not any(pair)},
        )

    @property
    def names(self) -> tuple[str, ...]:
        """C class names in the order of ``BoxArrays.class_id``."""
        return tuple(self.config.class_names)

    @property
    def ranges(self) -> Floats:
        """(C,) evaluation ranges, metres from the ego vehicle."""
        return np.array(list(self.config.class_range.values()), np.float64)

    def ids_of(self, classes: ClassSet) -> Ints:
        """Returns the (C,) index into ``names`` of each class of a set."""
        return np.array([self.names.index(name) for name in classes.names], np.int64)

    def ids_without(self, error: str) -> list[int]:
        """Returns the indices of the classes that do not have a TP error."""
        return [i for i, name in enumerate(self.names) if error in self.undefined.get(name, ())]


@dataclass(frozen=True)
class Scope:
    """Filter for evaluated boxes.

    Attributes:
        ego: (S, 2) positions of the ego vehicle in the global frame, metres.
        ranges: (C,) evaluation range of each class, metres from the ego vehicle.
        regions: regions in the global frame, as pairs of sample index and box, in which the classes
            ``not_in_regions`` are not evaluated.
        not_in_regions: ids of these classes.
    """

    ego: Floats
    ranges: Floats
    regions: Sequence[tuple[int, Box]] = ()
    not_in_regions: Sequence[int] = ()

    def select(self, boxes: BoxArrays) -> BoxArrays:
        """Returns the evaluated boxes: within range and outside of the regions."""
        distance = np.linalg.norm(boxes.center[:, :2] - self.ego[boxes.sample], axis=1)
        # Strictly below the range, as in the devkit's filter_eval_boxes.
        boxes = boxes.select(distance < self.ranges[boxes.class_id])
        return boxes.select(~self._in_region(boxes))

    def _in_region(self, boxes: BoxArrays) -> NDArray[np.bool_]:
        """Returns an (N,) mask of the boxes of ``not_in_regions`` with their centre in a region."""
        inside = np.zeros(len(boxes), bool)
        candidates = np.flatnonzero(np.isin(boxes.class_id, self.not_in_regions))
        sample = boxes.sample[candidates]
        for number, region in self.regions:
            in_sample = candidates[sample == number]
            inside[in_sample] |= points_in_box(region, boxes.center[in_sample].T)
        return inside


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth of S samples.

    Attributes:
        boxes: evaluated ground-truth boxes.
        scope: filter for evaluated boxes, which applies to predictions as well.
        num_ignored: number of objects that are left out because no chosen camera sees them.
        notes: sentences for log and report.
    """

    boxes: BoxArrays
    scope: Scope
    num_ignored: int = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class TruthSource(ABC):
    """Source of the ground truth of the samples of a data set.

    Attributes:
        classes: the evaluated classes.
        dataset: the evaluated data set.
        unseen_objects: whether the ground truth excludes the objects without a 2D box in any of
            ``dataset.cameras`` ("ignore") or not ("count").
    """

    classes: ClassSet
    dataset: FrameDataset
    unseen_objects: UnseenObjects

    @property
    def facts(self) -> dict[str, str]:
        """Names and values that identify the evaluated data."""
        return {"data set": self.dataset.name, **self.chosen_cameras}

    @property
    def chosen_cameras(self) -> dict[str, str]:
        """The entry of ``facts`` about the chosen cameras; empty for all cameras."""
        cameras = None if self.dataset is None else self.dataset.cameras
        return {} if cameras is None else {"cameras": ", ".join(cameras)}

    @property
    def task(self) -> DetectionTask:
        """Classes and thresholds."""
        return DetectionTask.of(self.classes)

    @property
    def name(self) -> str:
        """The evaluated data, for messages."""
        return f"data set {self.dataset.name!r}"

    @cached_property
    def scenes(self) -> dict[str, str]:
        """Sample token -> scene name of the samples, in order."""
        frames = map(self.dataset.index.__getitem__, range(len(self.dataset)))
        return {frame.sample_token: frame.scene_name for frame in frames}

    @property
    @abstractmethod
    def truth(self) -> GroundTruth | None:
        """The ground truth; None for a data set without annotations."""

    def _with_cameras(self, truth: GroundTruth, seen: BoxArrays) -> GroundTruth:
        """Applies ``unseen_objects`` to the ground truth of a data set with chosen cameras.

        Args:
            truth: ground truth with all objects.
            seen: its boxes with a 2D box in a chosen camera.
        """
        unseen, is_ignored = len(truth.boxes) - len(seen), self.unseen_objects == "ignore"
        if not unseen:
            return truth
        note = (
            f"{unseen} of {len(truth.boxes)} objects have no 2D box in "
            f"{', '.join(self.dataset.cameras)}; they "
            f"{'are left out of' if is_ignored else 'count in'} the ground truth"
        )
        return replace(
            truth,
            boxes=seen if is_ignored else truth.boxes,
            num_ignored=unseen if is_ignored else 0,
            notes=[*truth.notes, note],
        )


class IndexTruth(TruthSource):
    """Ground truth from the frame index of a data set.

    Distances are measured from the ego vehicle at the time of the LiDAR sweep, without LiDAR at
    that of the reference camera. An index has no unknown velocities: its 0 means that an object
    stands still.
    """

    @cached_property
    def truth(self) -> GroundTruth | None:
        dataset, task, rows = self.dataset, self.task, range(len(self.dataset))
        if not dataset.index.num_annotations:
            return None
        frames = [dataset.index[row] for row in rows]
        poses = [f.lidar.ego2global if f.lidar else f.key_ego2global for f in frames]
        scope = Scope(ego=np.stack(poses)[:, :2, 3], ranges=task.ranges)
        boxes, notes = self._boxes(frames, map(dataset.index.annotations, rows), task)
        truth = GroundTruth(scope.select(boxes), scope, notes=notes)
        if dataset.cameras is None:
            return truth
        seen, _ = self._boxes(frames, map(dataset.annotations, rows), task)
        return self._with_cameras(truth, scope.select(seen))

    def _boxes(
        self, frames: Sequence[Frame], annotations: Iterable[Annotations], task: DetectionTask
    ) -> tuple[BoxArrays, list[str]]:
        """Returns the objects with points in the global frame, and notes."""
        objects = [each.select(each.has_points) for each in annotations]
        counts = [len(each) for each in objects]
        pose = np.repeat(np.stack([frame.key_ego2global for frame in frames]), counts, axis=0)

        def column(name: str) -> NDArray:
            return np.concatenate([getattr(each, name) for each in objects])

        def rotated(vectors: NDArray) -> Floats:
            size = vectors.shape[1]
            return np.einsum("nij,nj->ni", pose[:, :size, :size], vectors)

        heading = rotated(column("rotation")[:, :, 0])
        half_yaw = np.arctan2(heading[:, 1], heading[:, 0]) / 2
        zero = np.zeros_like(half_yaw)
        class_id = task.ids_of(self.dataset.classes)[column("class_ids")]
        names = [name for each in objects for name in each.attributes]
        attribute, notes = attribute_ids(task, names, class_id)
        boxes = BoxArrays(
            sample=np.repeat(np.arange(len(objects)), counts),
            class_id=class_id,
            center=rotated(column("center")) + pose[:, :3, 3],
            size=column("size")[:, [1, 0, 2]].astype(np.float64),  # width before length
            # A rotation about z only: the metrics use no more of it.
            rotation=np.stack([np.cos(half_yaw), zero, zero, np.sin(half_yaw)], axis=1),
            velocity=rotated(column("velocity")),
            attribute=attribute,
            score=np.full(len(class_id), -1.0),
        )
        return boxes, notes


def attribute_ids(
    task: DetectionTask, names: Sequence[str], class_id: Ints
) -> tuple[Ints, list[str]]:
    """Returns the ids of the attributes of ground-truth boxes, and notes.

    Args:
        task: the task.
        names: N attribute names.
        class_id: (N,) classes of the boxes.

    Returns:
        (N,) index into ``task.attributes``; for names that the task does not have, an id that no
        prediction has. A note lists such names of classes that have attributes.
    """
    index = {name: number for number, name in enumerate(task.attributes)}
    without = task.ids_without("attr_err")
    unknown = {name for name, number in zip(names, class_id) if number not in without} - set(index)
    notes = []
    if unknown:
        notes.append(
            f"the classes lack the attributes {', '.join(sorted(unknown))} of the data; no "
            "prediction can have them, so that they count as attribute errors"
        )
    return np.array([index.get(name, len(index)) for name in names], np.int64), notes
