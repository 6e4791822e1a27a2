"""nuScenes' records of one sample -> the rows of the frame index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from nuscenes.eval.detection.utils import category_to_detection_name
from pyquaternion import Quaternion

from fsdbev.data.index.records import Annotations, Frame, Lidar
from fsdbev.structures import CLASS_NAMES

from .tables import REMEDY, NuScenesTables, TableError

LIDAR_CHANNEL = "LIDAR_TOP"
#: Level of the visibility table -> ``Annotations.visibility``.
VISIBILITY_LEVELS = {"v0-40": 1, "v40-60": 2, "v60-80": 3, "v80-100": 4}
#: A quaternion's length may differ from 1 by this much, by rounding: it is made 1.
_QUATERNION_TOLERANCE = 0.01


def class_id(category_name: str) -> int:
    """Index into CLASS_NAMES of a nuScenes category, -1 for what is not detected."""
    name = category_to_detection_name(category_name)
    return -1 if name is None else CLASS_NAMES.index(name)


def lidarseg_classes(categories: Sequence[dict]) -> list[int]:
    """Class id of every lidarseg index of the category table, -1 for background."""
    class_ids = [-1] * (1 + max(category["index"] for category in categories))
    for category in categories:
        class_ids[category["index"]] = class_id(category["name"])
    return class_ids


def frame_of(
    nusc: NuScenesTables,
    scene: dict,
    sample: dict,
    *,
    channels: Sequence[str],
    reference: int,
    neighbours: tuple[int, int],
) -> Frame:
    """A sample's sensors.

    Args:
        nusc: the tables.
        scene, sample: their records.
        channels: cameras, in this order.
        reference: number of the reference camera.
        neighbours: rows of the samples before and after, -1 for none.

    Raises:
        TableError: the sample lacks a camera, or a record of it is missing or impossible.
    """
    missing = [channel for channel in channels if channel not in sample["data"]]
    if missing:
        raise TableError(
            f"{nusc.folder / 'sample_data.json'}: has no key frame of {', '.join(missing)} for "
            f"sample {sample['token']}; all samples need all cameras of the rig: complete the "
            "table, or take the sample out of its scene's chain"
        )
    records = [nusc.get("sample_data", sample["data"][channel]) for channel in channels]
    calibrations = [nusc.get("calibrated_sensor", r["calibrated_sensor_token"]) for r in records]
    return Frame(
        sample_token=sample["token"],
        scene_token=sample["scene_token"],
        scene_name=scene["name"],
        timestamp=sample["timestamp"],
        previous=neighbours[0],
        next=neighbours[1],
        channels=tuple(channels),
        image_paths=tuple(r["filename"] for r in records),
        image_sizes=np.array([(r["width"], r["height"]) for r in records], np.int64),
        camera_timestamps=np.array([r["timestamp"] for r in records], np.int64),
        intrinsics=np.stack([_intrinsics(nusc, c) for c in calibrations]),
        cam2ego=np.stack([_pose(nusc, "calibrated_sensor", c) for c in calibrations]),
        ego2global=np.stack([_ego2global(nusc, r) for r in records]),
        reference_camera=reference,
        lidar=_lidar(nusc, sample),
    )


def _pose(nusc: NuScenesTables, table: str, record: dict) -> NDArray[np.float64]:
    """(4, 4) from a record's translation and rotation, a unit quaternion w, x, y, z."""
    translation = np.asarray(record["translation"], np.float64)
    rotation = np.asarray(record["rotation"], np.float64)
    where = f"{nusc.folder / table}.json: record {record['token']}"
    if translation.shape != (3,) or not np.isfinite(translation).all():
        raise TableError(f"{where}: translation {translation} is not three numbers; {REMEDY}")
    length = np.linalg.norm(rotation)
    if rotation.shape != (4,) or not abs(length - 1) <= _QUATERNION_TOLERANCE:  # nor NaN
        raise TableError(
            f"{where}: rotation {rotation} is no unit quaternion (length {length:.4g}); {REMEDY}"
        )
    pose = Quaternion(rotation).transformation_matrix
    pose[:3, 3] = translation
    return pose


def _ego2global(nusc: NuScenesTables, sample_data: dict) -> NDArray[np.float64]:
    return _pose(nusc, "ego_pose", nusc.get("ego_pose", sample_data["ego_pose_token"]))


def _intrinsics(nusc: NuScenesTables, calibration: dict) -> NDArray[np.float64]:
    intrinsics = np.asarray(calibration["camera_intrinsic"], np.float64)
    if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
        raise TableError(
            f"{nusc.folder / 'calibrated_sensor.json'}: record {calibration['token']}: "
            f"camera_intrinsic {intrinsics.tolist()} is no 3 x 3 matrix of numbers; {REMEDY}"
        )
    return intrinsics


def _lidar(nusc: NuScenesTables, sample: dict) -> Lidar | None:
    token = sample["data"].get(LIDAR_CHANNEL)
    if token is None:
        return None
    record = nusc.get("sample_data", token)
    calibration = nusc.get("calibrated_sensor", record["calibrated_sensor_token"])
    return Lidar(
        path=record["filename"],
        timestamp=record["timestamp"],
        lidar2ego=_pose(nusc, "calibrated_sensor", calibration),
        ego2global=_ego2global(nusc, record),
        lidarseg_path=_lidarseg_path(nusc, token),
    )


def _lidarseg_path(nusc: NuScenesTables, lidar_token: str) -> str | None:
    """Label file of a sweep; None where there is none: no lidarseg at all, or not of this sweep."""
    known = nusc.has("lidarseg", lidar_token)
    return nusc.get("lidarseg", lidar_token)["filename"] if known else None


def annotations_of(
    nusc: NuScenesTables, sample: dict, key_ego2global: NDArray[np.float64]
) -> Annotations:
    """A sample's annotations of the detection classes; positions go from global to key ego in
    float64.

    Raises:
        TableError: a record is missing or impossible.
    """
    records = [nusc.get("sample_annotation", token) for token in sample["anns"]]
    records = [r for r in records if class_id(r["category_name"]) >= 0]
    if not records:
        return Annotations.empty()
    global2key = np.linalg.inv(key_ego2global)
    poses = global2key @ np.stack([_pose(nusc, "sample_annotation", r) for r in records])
    velocity = np.stack([_velocity(nusc, r) for r in records]) @ global2key[:3, :3].T
    width_length_height = np.array([r["size"] for r in records])
    attributes = [
        [nusc.get("attribute", t)["name"] for t in r["attribute_tokens"]] for r in records
    ]
    return Annotations(
        tokens=tuple(r["token"] for r in records),
        instance_tokens=tuple(r["instance_token"] for r in records),
        attributes=tuple(names[0] if names else "" for names in attributes),
        class_ids=np.array([class_id(r["category_name"]) for r in records], np.int8),
        visibility=np.array([_visibility(nusc, r) for r in records], np.int8),
        num_lidar_points=np.array([r["num_lidar_pts"] for r in records], np.int64),
        num_radar_points=np.array([r["num_radar_pts"] for r in records], np.int64),
        center=poses[:, :3, 3].astype(np.float32),
        size=width_length_height[:, [1, 0, 2]].astype(np.float32),
        rotation=poses[:, :3, :3].astype(np.float32),
        velocity=velocity[:, :2].astype(np.float32),
    )


def _velocity(nusc: NuScenesTables, annotation: dict) -> NDArray[np.float64]:
    """(3,) the devkit's velocity, global, m/s; 0 where it is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        velocity = nusc.box_velocity(annotation["token"])
    if np.isinf(velocity).any():
        raise TableError(
            f"{nusc.folder / 'sample_annotation.json'}: record {annotation['token']}: its object "
            f"is in two places at a time (see prev and next); {REMEDY}"
        )
    return np.nan_to_num(velocity)


def _visibility(nusc: NuScenesTables, annotation: dict) -> int:
    """1 (below 40 % visible) to 4, 0 where the annotation names none."""
    token = annotation["visibility_token"]
    if not token:
        return 0
    level = nusc.get("visibility", token)["level"]
    if level not in VISIBILITY_LEVELS:
        raise TableError(
            f"{nusc.folder / 'visibility.json'}: record {token}: level {level!r} is not one of "
            f"{', '.join(VISIBILITY_LEVELS)}; {REMEDY}"
        )
    return VISIBILITY_LEVELS[level]
