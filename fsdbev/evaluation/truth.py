"""nuScenes' true boxes as arrays, and which boxes the detection metrics count.

The rules (nuScenes, detection task, "Preprocessing"): boxes within their class's range of the ego
vehicle; of the true ones those with a lidar or radar point; no two-wheelers in bicycle racks.

Shapes: S samples, N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nuscenes.eval.detection.data_classes import DetectionConfig
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from .box_arrays import ATTRIBUTES, CLASSES, BoxArrays, Floats, Ints, positions, rows

_RACK = "static_object.bicycle_rack"
_KEPT_IN_RACKS = [CLASSES.index(name) for name in ("bicycle", "motorcycle")]

Record = dict[str, Any]


@dataclass(frozen=True)
class GroundTruth:
    """What the predictions of some samples are measured by.

    Attributes:
        boxes: the true boxes that count.
        scope: what decides which boxes count.
    """

    boxes: BoxArrays
    scope: Scope


@dataclass(frozen=True)
class Scope:
    """Which boxes count.

    Attributes:
        ego: (S, 2) positions of the ego vehicle in the global frame, metres.
        ranges: (number of ``CLASSES``,) distances from it within which a class counts, metres.
        racks: bicycle racks, each behind the position of its sample.
    """

    ego: Floats
    ranges: Floats
    racks: Sequence[tuple[int, Box]]

    def select(self, boxes: BoxArrays) -> BoxArrays:
        """Those that count."""
        distance = np.linalg.norm(boxes.center[:, :2] - self.ego[boxes.sample], axis=1)
        boxes = boxes.select(distance < self.ranges[boxes.class_id])
        return boxes.select(~self._in_a_rack(boxes))

    def _in_a_rack(self, boxes: BoxArrays) -> NDArray[np.bool_]:
        """(N,) two-wheelers with their centre in a rack."""
        inside = np.zeros(len(boxes), bool)
        two_wheelers = np.flatnonzero(np.isin(boxes.class_id, _KEPT_IN_RACKS))
        sample = boxes.sample[two_wheelers]
        for number, rack in self.racks:
            there = two_wheelers[sample == number]
            inside[there] |= points_in_box(rack, boxes.center[there].T)
        return inside


def read_truth(nusc: NuScenes, tokens: Sequence[str], config: DetectionConfig) -> GroundTruth:
    """True boxes of the samples, in their order.

    Raises:
        ValueError: an annotation has several attributes or one that nuScenes does not know.
    """
    class_of = {c["name"]: category_to_detection_name(c["name"]) for c in nusc.category}
    samples = [nusc.get("sample", token) for token in tokens]
    annotations = [
        (number, nusc.get("sample_annotation", token))
        for number, sample in enumerate(samples)
        for token in sample["anns"]
    ]
    counted = [
        (number, record)
        for number, record in annotations
        if class_of[record["category_name"]] is not None
        and record["num_lidar_pts"] + record["num_radar_pts"] != 0
    ]
    records = [record for _, record in counted]
    boxes = BoxArrays(
        sample=np.array([number for number, _ in counted], np.int64),
        class_id=positions((class_of[record["category_name"]] for record in records), CLASSES),
        center=rows((record["translation"] for record in records), 3),
        size=rows((record["size"] for record in records), 3),
        rotation=rows((record["rotation"] for record in records), 4),
        velocity=rows((nusc.box_velocity(record["token"])[:2] for record in records), 2),
        attribute=_attributes(nusc, records),
        score=np.full(len(records), -1.0),
    )
    scope = Scope(
        ego=rows((_ego_position(nusc, sample) for sample in samples), 2),
        ranges=np.array([config.class_range[name] for name in CLASSES], np.float64),
        racks=[(number, _box(r)) for number, r in annotations if r["category_name"] == _RACK],
    )
    return GroundTruth(scope.select(boxes), scope)


def _ego_position(nusc: NuScenes, sample: Record) -> list[float]:
    """x and y of the ego vehicle at the time of the sample's sweep."""
    data = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    return nusc.get("ego_pose", data["ego_pose_token"])["translation"][:2]


def _box(record: Record) -> Box:
    return Box(record["translation"], record["size"], Quaternion(record["rotation"]))


def _attributes(nusc: NuScenes, records: Sequence[Record]) -> Ints:
    """(N,) indices into ``ATTRIBUTES``."""
    for record in records:
        if len(record["attribute_tokens"]) > 1:
            raise ValueError(
                f"annotation {record['token']} has {len(record['attribute_tokens'])} attributes; "
                "the metrics are defined for one at most"
            )
    name_of = {attribute["token"]: attribute["name"] for attribute in nusc.attribute}
    names = ("".join(map(name_of.__getitem__, r["attribute_tokens"])) for r in records)
    return positions(names, ATTRIBUTES)
