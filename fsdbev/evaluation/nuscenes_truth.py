"""Ground truth from nuScenes' tables, nuScenes' rules for its classes, and the devkit's evaluation.

Beyond the rules of :mod:`.truth`, the devkit drops bicycles and motorcycles inside bicycle racks,
leaves some errors of cones and barriers undefined, and compares the headings of barriers up to half
a turn (devkit, ``eval/detection/README.md``). Here these rules follow the source categories of a
class, so that they hold for a class of another name with the same objects.

Shapes: N boxes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.utils.data_classes import Box
from nuscenes.utils.splits import get_scenes_of_split
from pyquaternion import Quaternion

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.nuscenes.tables import NuScenesTables
from fsdbev.structures import NUSCENES_CLASSES, OFFICIAL_SPLITS, ClassSet, check_split_name

from .box_arrays import BoxArrays, rows
from .truth import DetectionTask, GroundTruth, Scope, TruthSource, attribute_ids

_RACK = "static_object.bicycle_rack"
_TWO_WHEELERS = {"vehicle.bicycle", "vehicle.motorcycle"}
_BARRIER = "movable_object.barrier"
#: Category -> TP errors that nuScenes leaves undefined (devkit README, "True Positive errors"): a
#: cone has no heading, and neither cones nor barriers move or have attributes.
_UNDEFINED = {
    "movable_object.trafficcone": {"orient_err", "vel_err", "attr_err"},
    _BARRIER: {"vel_err", "attr_err"},
}

Record = dict[str, Any]


def nuscenes_task(classes: ClassSet) -> DetectionTask:
    """Returns the task of classes of nuScenes' categories, with nuScenes' rules.

    A rule holds for a class if it holds for all of its categories.
    """
    task, undefined = DetectionTask.of(classes), {}
    for name, categories in classes.categories.items():
        lacking = set.intersection(*(_UNDEFINED.get(c, set()) for c in categories))
        lacking |= set(task.undefined.get(name, ()))
        undefined[name] = tuple(error for error in TP_METRICS if error in lacking)
    return replace(task, undefined=undefined, half_turn=tuple(_classes_of(classes, {_BARRIER})))


def _classes_of(classes: ClassSet, categories: set[str]) -> list[str]:
    """Returns the names of the classes that have only these categories."""
    return [name for name, own in classes.categories.items() if set(own) <= categories]


def difference_from_nuscenes(classes: ClassSet) -> str:
    """Returns how classes differ from those of nuScenes' detection task; "" if they do not."""
    if set(classes.names) != set(NUSCENES_CLASSES.names):
        return f"the classes are {', '.join(classes.names)}"
    for what in ("categories", "attributes", "ranges"):
        if getattr(classes, what) != getattr(NUSCENES_CLASSES, what):
            return f"the {what} of the classes differ from nuScenes'"
    return ""


def check_split(dataroot: str, version: str, split: str) -> None:
    """Checks that a split is one of the version, without reading the tables.

    Raises:
        ValueError: it is an official split of another version, or the version's ``splits.json``
            gives the name of an official split to other scenes.
    """
    needed = OFFICIAL_SPLITS.get(split)
    if needed is None:
        return
    if not version.endswith(needed):
        raise ValueError(
            f"split {split!r} belongs to a version ending in {needed!r}, got {version!r}"
        )
    path = Path(dataroot, version, "splits.json")
    if not path.is_file():
        return
    try:
        custom = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON ({error}); write it again") from error
    if split in custom:
        check_split_name(split, str(path))


@dataclass(frozen=True, kw_only=True)
class TableTruth(TruthSource):
    """Ground truth from nuScenes' tables.

    Attributes:
        dataroot: nuScenes folder.
        version: e.g. ``v1.0-trainval``.
        split: name of the split.
        dataset: the evaluated data set; None for all samples of the split.
    """

    dataroot: str
    version: str
    split: str
    dataset: FrameDataset | None = None

    @property
    def facts(self) -> dict[str, str]:
        return {"data set": self.version, "split": self.split, **self.chosen_cameras}

    @property
    def name(self) -> str:
        return f"split {self.split!r}"

    @property
    def task(self) -> DetectionTask:
        return nuscenes_task(self.classes)

    @cached_property
    def nusc(self) -> NuScenesTables:
        """The tables, gigabytes of small objects for the full data set."""
        return NuScenesTables(self.dataroot, self.version)

    @cached_property
    def scenes(self) -> dict[str, str]:
        """Sample token -> scene name of the samples, in order.

        Raises:
            ValueError: this version has no sample of the split, or lacks one of the index.
        """
        if self.dataset is None:
            return self._scenes_of_split()
        found = super().scenes
        missing = set(found) - {sample["token"] for sample in self.nusc.sample}
        if missing:
            raise ValueError(
                f"{self.nusc.dataroot}/{self.version} lacks {len(missing)} samples of "
                f"{self.dataset.index.path}, for example {min(missing)}; prepare the split again"
            )
        return found

    def _scenes_of_split(self) -> dict[str, str]:
        """Returns sample token -> scene name of the split's samples in this version.

        Raises:
            ValueError: this version has no such split, or no sample of it.
        """
        nusc = self.nusc
        try:
            scenes = set(get_scenes_of_split(self.split, nusc))
        except ValueError as error:
            raise ValueError(
                f"there is no split {self.split!r} ({error}); the splits are nuScenes' official "
                "ones and those of splits.json"
            ) from error
        names = {scene["token"]: scene["name"] for scene in nusc.scene}
        found = {
            sample["token"]: names[sample["scene_token"]]
            for sample in nusc.sample
            if names[sample["scene_token"]] in scenes
        }
        if not found:
            raise ValueError(
                f"split {self.split!r} has no sample in {nusc.version} at {nusc.dataroot}; its "
                f"first scenes are {[scene['name'] for scene in nusc.scene[:5]]}"
            )
        return found

    @cached_property
    def truth(self) -> GroundTruth | None:
        """The ground truth; None for a version without annotations (the test split).

        Raises:
            ValueError: an annotation has several attributes.
        """
        if not self.nusc.sample_annotation:
            return None
        tokens, dataset = list(self.scenes), self.dataset
        truth = read_truth(self.nusc, tokens, self.classes)
        if dataset is None or dataset.cameras is None:
            return truth
        seen = {name for row in range(len(dataset)) for name in dataset.annotations(row).tokens}
        return self._with_cameras(
            truth, read_truth(self.nusc, tokens, self.classes, only=seen).boxes
        )

    def why_unofficial(self) -> str:
        """Returns why the devkit cannot compute the metrics of these samples and classes; "" if it
        can."""
        different = difference_from_nuscenes(self.classes)
        if different:
            return different
        try:
            whole = self._scenes_of_split()
        except ValueError as error:
            return str(error)
        if whole.keys() != self.scenes.keys():
            return (
                f"the index has {len(self.scenes)} of the {len(whole)} samples of split "
                f"{self.split!r}"
            )
        if self.truth.num_ignored:
            return "objects outside of the chosen cameras are left out of the ground truth"
        return "" if len(self.truth.boxes) else "there are no ground-truth boxes"

    def devkit_summary(self, submission: Path, scratch: str) -> Record:
        """Returns the metrics summary of a submission file, computed by the devkit.

        Args:
            submission: path of the file.
            scratch: temporary folder for the devkit's output.
        """
        config = DetectionTask.of(self.classes).config
        devkit = DetectionEval(
            self.nusc, config, str(submission), self.split, scratch, verbose=False
        )
        return devkit.evaluate()[0].serialize()


def read_truth(
    nusc: NuScenesTables, tokens: Sequence[str], classes: ClassSet, only: set[str] | None = None
) -> GroundTruth:
    """Reads the ground truth of samples from nuScenes' tables.

    Args:
        nusc: the tables.
        tokens: S sample tokens; boxes come in this order.
        classes: the evaluated classes.
        only: tokens of the annotations to read; None for all.

    Raises:
        ValueError: an annotation has several attributes.
    """
    task = nuscenes_task(classes)
    samples = [nusc.get("sample", token) for token in tokens]
    annotations = [
        (number, nusc.get("sample_annotation", token))
        for number, sample in enumerate(samples)
        for token in sample["anns"]
    ]
    evaluated = [
        (number, record)
        for number, record in annotations
        if classes.id_of_category(record["category_name"]) >= 0
        and record["num_lidar_pts"] + record["num_radar_pts"] != 0
        and (only is None or record["token"] in only)
    ]
    records = [record for _, record in evaluated]
    own_ids = [classes.id_of_category(record["category_name"]) for record in records]
    class_id = task.ids_of(classes)[np.array(own_ids, np.int64)]
    attribute, notes = attribute_ids(task, _attribute_names(nusc, records), class_id)
    boxes = BoxArrays(
        sample=np.array([number for number, _ in evaluated], np.int64),
        class_id=class_id,
        center=rows((record["translation"] for record in records), 3),
        size=rows((record["size"] for record in records), 3),
        rotation=rows((record["rotation"] for record in records), 4),
        velocity=rows((nusc.box_velocity(record["token"])[:2] for record in records), 2),
        attribute=attribute,
        score=np.full(len(records), -1.0),  # the devkit's value for ground truth
    )
    scope = Scope(
        ego=rows((_ego_position(nusc, sample) for sample in samples), 2),
        ranges=task.ranges,
        # From all annotations: racks are no detection class, and the devkit keeps those without
        # points.
        regions=[(number, _box(r)) for number, r in annotations if r["category_name"] == _RACK],
        not_in_regions=[task.names.index(name) for name in _classes_of(classes, _TWO_WHEELERS)],
    )
    return GroundTruth(scope.select(boxes), scope, notes=notes)


def _ego_position(nusc: NuScenesTables, sample: Record) -> list[float]:
    """Returns x and y of the ego vehicle at the time of the sample's LIDAR_TOP sweep, which is the
    devkit's reference for distances; global frame, metres."""
    data = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    return nusc.get("ego_pose", data["ego_pose_token"])["translation"][:2]


def _box(record: Record) -> Box:
    """Converts an annotation record to a devkit box in the global frame."""
    return Box(record["translation"], record["size"], Quaternion(record["rotation"]))


def _attribute_names(nusc: NuScenesTables, records: Sequence[Record]) -> list[str]:
    """Returns the attribute names of N records, "" for a record without attribute.

    Raises:
        ValueError: a record has several attributes.
    """
    for record in records:
        if len(record["attribute_tokens"]) > 1:
            raise ValueError(
                f"annotation {record['token']} has {len(record['attribute_tokens'])} attributes; "
                "nuScenes' metrics allow at most one"
            )
    name_of = {attribute["token"]: attribute["name"] for attribute in nusc.attribute}
    return ["".join(map(name_of.__getitem__, record["attribute_tokens"])) for record in records]
