"""nuScenes' ground-truth boxes as arrays, and the filter for evaluated boxes.

The rules (devkit, ``eval/detection/README.md``, "Preprocessing"; ``eval.common.loaders``): a box
must be within its class's range of the ego vehicle; a ground-truth box needs at least one lidar or
radar point; bicycles and motorcycles inside bicycle racks are dropped.

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
_TWO_WHEELERS = [CLASSES.index(name) for name in ("bicycle", "motorcycle")]

Record = dict[str, Any]


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth of S samples.

    Attributes:
        boxes: evaluated ground-truth boxes.
        scope: filter for evaluated boxes, which applies to predictions as well.
    """

    boxes: BoxArrays
    scope: Scope


@dataclass(frozen=True)
class Scope:
    """Filter for evaluated boxes.

    Attributes:
        ego: (S, 2) positions of the ego vehicle in the global frame, metres.
        ranges: (len(CLASSES),) evaluation range of each class, metres from the ego vehicle.
        racks: bicycle racks in the global frame, as pairs of sample index and box.
    """

    ego: Floats
    ranges: Floats
    racks: Sequence[tuple[int, Box]]

    def select(self, boxes: BoxArrays) -> BoxArrays:
        """Returns the evaluated boxes: within range and outside of bicycle racks."""
        distance = np.linalg.norm(boxes.center[:, :2] - self.ego[boxes.sample], axis=1)
        # Strictly below the range, as in the devkit's filter_eval_boxes.
        boxes = boxes.select(distance < self.ranges[boxes.class_id])
        return boxes.select(~self._in_bicycle_rack(boxes))

    def _in_bicycle_rack(self, boxes: BoxArrays) -> NDArray[np.bool_]:
        """Returns an (N,) mask of the two-wheelers whose centre is inside a rack."""
        inside = np.zeros(len(boxes), bool)
        two_wheelers = np.flatnonzero(np.isin(boxes.class_id, _TWO_WHEELERS))
        sample = boxes.sample[two_wheelers]
        for number, rack in self.racks:
            in_sample = two_wheelers[sample == number]
            inside[in_sample] |= points_in_box(rack, boxes.center[in_sample].T)
        return inside


def read_truth(nusc: NuScenes, tokens: Sequence[str], config: DetectionConfig) -> GroundTruth:
    """Reads the ground truth of samples from nuScenes' tables.

    Args:
        nusc: the tables.
        tokens: S sample tokens; boxes come in this order.
        config: the devkit's evaluation ranges.

    Raises:
        ValueError: an annotation has several attributes, or one that is not nuScenes'.
    """
    class_of = {c["name"]: category_to_detection_name(c["name"]) for c in nusc.category}
    samples = [nusc.get("sample", token) for token in tokens]
    annotations = [
        (number, nusc.get("sample_annotation", token))
        for number, sample in enumerate(samples)
        for token in sample["anns"]
    ]
    evaluated = [
        (number, record)
        for number, record in annotations
        if class_of[record["category_name"]] is not None
        and record["num_lidar_pts"] + record["num_radar_pts"] != 0
    ]
    records = [record for _, record in evaluated]
    boxes = BoxArrays(
        sample=np.array([number for number, _ in evaluated], np.int64),
        class_id=positions((class_of[record["category_name"]] for record in records), CLASSES),
        center=rows((record["translation"] for record in records), 3),
        size=rows((record["size"] for record in records), 3),
        rotation=rows((record["rotation"] for record in records), 4),
        velocity=rows((nusc.box_velocity(record["token"])[:2] for record in records), 2),
        attribute=_attributes(nusc, records),
        score=np.full(len(records), -1.0),  # the devkit's value for ground truth
    )
    scope = Scope(
        ego=rows((_ego_position(nusc, sample) for sample in samples), 2),
        ranges=np.array([config.class_range[name] for name in CLASSES], np.float64),
        # From all annotations: racks are no detection class, and the devkit keeps those without
        # points.
        racks=[(number, _box(r)) for number, r in annotations if r["category_name"] == _RACK],
    )
    return GroundTruth(scope.select(boxes), scope)


def _ego_position(nusc: NuScenes, sample: Record) -> list[float]:
    """Returns x and y of the ego vehicle at the time of the sample's LIDAR_TOP sweep, which is the
    devkit's reference for distances; global frame, metres."""
    data = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    return nusc.get("ego_pose", data["ego_pose_token"])["translation"][:2]


def _box(record: Record) -> Box:
    """Converts an annotation record to a devkit box in the global frame."""
    return Box(record["translation"], record["size"], Quaternion(record["rotation"]))


def _attributes(nusc: NuScenes, records: Sequence[Record]) -> Ints:
    """Returns the (N,) indices of the records' attributes in ``ATTRIBUTES``.

    Raises:
        ValueError: a record has several attributes, or one that is not nuScenes'.
    """
    for record in records:
        if len(record["attribute_tokens"]) > 1:
            raise ValueError(
                f"annotation {record['token']} has {len(record['attribute_tokens'])} attributes; "
                "nuScenes' metrics allow at most one"
            )
    name_of = {attribute["token"]: attribute["name"] for attribute in nusc.attribute}
    # A record without attribute joins to "", the first of ATTRIBUTES.
    names = ("".join(map(name_of.__getitem__, r["attribute_tokens"])) for r in records)
    return positions(names, ATTRIBUTES)
