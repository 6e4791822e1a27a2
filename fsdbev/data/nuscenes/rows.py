"""Conversion of the nuScenes records of one sample to a row of the frame index.

Shapes: M annotations.

Frames of reference are those of docs/model.md, "Frames of reference". Poses are composed in
float64: global coordinates reach thousands of metres, where float32 resolves 0.1 to 0.5 mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyquaternion import Quaternion

from fsdbev.data.index.records import Annotations, Frame, Lidar
from fsdbev.data.io.rectify import rectified_intrinsics
from fsdbev.structures import ClassSet, Lens

from .tables import REMEDY, NuScenesTables, TableError

LIDAR_CHANNEL = "LIDAR_TOP"
#: Level in the visibility table -> ``Annotations.visibility``.
VISIBILITY_LEVELS = {"v0-40": 1, "v40-60": 2, "v60-80": 3, "v80-100": 4}
#: Lens model of a calibrated_sensor record without ``camera_lens``.
_DEFAULT_LENS = "radial_tangential"
#: Number of coefficients of nuImages' fish-eye lenses; its schema does not say what they mean.
_NUIMAGES_COEFFICIENTS = 6
#: Deviation from length 1 accepted as rounding of a quaternion; pyquaternion normalises it.
_QUATERNION_TOLERANCE = 0.01


def lidarseg_classes(categories: Sequence[dict], classes: ClassSet) -> list[int]:
    """Returns the class id of every lidarseg index in the category records, -1 for background."""
    class_ids = [-1] * (1 + max(category["index"] for category in categories))
    for category in categories:
        class_ids[category["index"]] = classes.id_of_category(category["name"])
    return class_ids


def read_frame(
    nusc: NuScenesTables,
    scene: dict,
    sample: dict,
    *,
    channels: Sequence[str],
    reference: int,
    neighbours: tuple[int, int],
    balance: float | None = None,
) -> Frame:
    """Returns the cameras and the LiDAR of a sample as a row of the frame index.

    Args:
        nusc: loaded tables.
        scene, sample: records of the scene and the sample.
        channels: cameras of the row, in this order.
        reference: index into ``channels`` of the reference camera.
        neighbours: rows of the previous and the next sample, -1 where there is none.
        balance: of the rectification of distorted images, see
            :func:`fsdbev.data.io.rectify.rectified_intrinsics`.

    Raises:
        TableError: the sample lacks a camera, or one of its records is missing or invalid.
    """
    missing = [channel for channel in channels if channel not in sample["data"]]
    if missing:
        raise TableError(
            f"{nusc.folder / 'sample_data.json'}: has no key frame of {', '.join(missing)} for "
            f"sample {sample['token']}; every sample needs all cameras of the rig: complete the "
            "table, or remove the sample from its scene's chain"
        )
    records = [nusc.get("sample_data", sample["data"][channel]) for channel in channels]
    calibrations = [nusc.get("calibrated_sensor", r["calibrated_sensor_token"]) for r in records]
    sizes = [(r["width"], r["height"]) for r in records]
    cameras = [_camera(nusc, *c, balance) for c in zip(calibrations, sizes, strict=True)]
    lenses = tuple(lens for _, lens in cameras)
    return Frame(
        sample_token=sample["token"],
        scene_token=sample["scene_token"],
        scene_name=scene["name"],
        timestamp=sample["timestamp"],
        previous=neighbours[0],
        next=neighbours[1],
        channels=tuple(channels),
        image_paths=tuple(r["filename"] for r in records),
        image_sizes=np.array(sizes, np.int64),
        camera_timestamps=np.array([r["timestamp"] for r in records], np.int64),
        intrinsics=np.stack([intrinsics for intrinsics, _ in cameras]),
        cam2ego=np.stack([_pose(nusc, "calibrated_sensor", c) for c in calibrations]),
        ego2global=np.stack([_ego2global(nusc, r) for r in records]),
        reference_camera=reference,
        lidar=_lidar(nusc, sample),
        lenses=lenses if any(lenses) else (),
    )


def _pose(nusc: NuScenesTables, table: str, record: dict) -> NDArray[np.float64]:
    """Returns the (4, 4) pose of a record: translation in metres, unit quaternion (w, x, y, z).

    Raises:
        TableError: the record has no finite translation or no unit quaternion.
    """
    translation = np.asarray(record["translation"], np.float64)
    rotation = np.asarray(record["rotation"], np.float64)
    where = f"{nusc.folder / table}.json: record {record['token']}"
    if translation.shape != (3,) or not np.isfinite(translation).all():
        raise TableError(
            f"{where}: translation {translation} must be three finite numbers; {REMEDY}"
        )
    length = np.linalg.norm(rotation)
    # "not <=" instead of ">", because comparisons with NaN are false and NaN must be refused.
    if rotation.shape != (4,) or not abs(length - 1) <= _QUATERNION_TOLERANCE:
        raise TableError(
            f"{where}: rotation {rotation} must be a unit quaternion, has length {length:.4g}; "
            f"{REMEDY}"
        )
    pose = Quaternion(rotation).transformation_matrix
    pose[:3, 3] = translation
    return pose


def _ego2global(nusc: NuScenesTables, sample_data: dict) -> NDArray[np.float64]:
    """Returns the (4, 4) pose of the ego vehicle at the time stamp of one sensor's data."""
    return _pose(nusc, "ego_pose", nusc.get("ego_pose", sample_data["ego_pose_token"]))


def _intrinsics(nusc: NuScenesTables, calibration: dict) -> NDArray[np.float64]:
    """Returns the (3, 3) intrinsics, in pixels, of a calibrated_sensor record.

    Raises:
        TableError: they are not 3 x 3 finite numbers.
    """
    intrinsics = np.asarray(calibration["camera_intrinsic"], np.float64)
    if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
        raise TableError(
            f"{nusc.folder / 'calibrated_sensor.json'}: record {calibration['token']}: "
            f"camera_intrinsic {intrinsics.tolist()} must be 3 x 3 finite numbers; {REMEDY}"
        )
    return intrinsics


def _camera(
    nusc: NuScenesTables, calibration: dict, image_size: tuple[int, int], balance: float | None
) -> tuple[NDArray[np.float64], Lens | None]:
    """Returns the (3, 3) intrinsics of the rectified images of a calibrated_sensor record, and the
    lens, None for images without distortion.

    Raises:
        TableError: intrinsics or lens are malformed.
    """
    intrinsics = _intrinsics(nusc, calibration)
    coefficients = calibration.get("camera_distortion") or []
    model = calibration.get("camera_lens") or _DEFAULT_LENS
    # Zeros change nothing in this model, but they do in that of a fish-eye lens.
    if model == _DEFAULT_LENS and not any(coefficients):
        return intrinsics, None
    try:
        if len(coefficients) == _NUIMAGES_COEFFICIENTS:
            raise ValueError(
                "nuImages has six coefficients, for images that are rectified already; remove them "
                "for such images"
            )
        lens = Lens(model, intrinsics, coefficients)
        return _rectified_intrinsics(lens, image_size, balance), lens
    except (TypeError, ValueError) as error:
        raise TableError(
            f"{nusc.folder / 'calibrated_sensor.json'}: record {calibration['token']}: "
            f"camera_lens {model!r}, camera_distortion {coefficients}: {error}; {REMEDY}"
        ) from error


# All samples of a scene have the same lenses.
_rectified_intrinsics = lru_cache(maxsize=64)(rectified_intrinsics)


def _lidar(nusc: NuScenesTables, sample: dict) -> Lidar | None:
    """Returns the sample's LIDAR_TOP sweep, or None for a sample without one."""
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
    """Returns the lidarseg label file of a sweep, or None for a sweep or version without labels."""
    labelled = nusc.has("lidarseg", lidar_token)
    return nusc.get("lidarseg", lidar_token)["filename"] if labelled else None


def read_annotations(
    nusc: NuScenesTables, sample: dict, key_ego2global: NDArray[np.float64], classes: ClassSet
) -> Annotations:
    """Returns a sample's annotations of the classes in the key ego frame.

    Args:
        nusc: loaded tables.
        sample: record of the sample.
        key_ego2global: (4, 4) float64 ego pose of the reference camera.
        classes: classes with their categories; objects of other categories are left out.

    Raises:
        TableError: a record is missing or invalid.
    """
    records = [nusc.get("sample_annotation", token) for token in sample["anns"]]
    class_ids = [classes.id_of_category(r["category_name"]) for r in records]
    records = [r for r, class_id in zip(records, class_ids, strict=True) if class_id >= 0]
    if not records:
        return Annotations.empty()
    # float64 up to the key ego frame, where coordinates are small enough for the index's float32.
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
        # The devkit's evaluation refuses ground truth with more than one attribute.
        attributes=tuple(names[0] if names else "" for names in attributes),
        class_ids=np.array([i for i in class_ids if i >= 0], np.int8),
        visibility=np.array([_visibility(nusc, r) for r in records], np.int8),
        num_lidar_points=np.array([r["num_lidar_pts"] for r in records], np.int64),
        num_radar_points=np.array([r["num_radar_pts"] for r in records], np.int64),
        center=poses[:, :3, 3].astype(np.float32),
        # nuScenes stores (width, length, height), the index (length, width, height).
        size=width_length_height[:, [1, 0, 2]].astype(np.float32),
        rotation=poses[:, :3, :3].astype(np.float32),
        velocity=velocity[:, :2].astype(np.float32),
    )


def _velocity(nusc: NuScenesTables, annotation: dict) -> NDArray[np.float64]:
    """Returns the devkit's (3,) velocity in the global frame, m/s; 0 where it is unknown.

    Raises:
        TableError: the annotations before and after it have the same time stamp.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        velocity = nusc.box_velocity(annotation["token"])
    if np.isinf(velocity).any():
        raise TableError(
            f"{nusc.folder / 'sample_annotation.json'}: record {annotation['token']}: its object "
            f"has two positions at the same time (see prev and next); {REMEDY}"
        )
    # The devkit returns NaN for an object without annotations in neighbouring samples; training
    # uses 0 (docs/model.md, "Training data").
    return np.nan_to_num(velocity)


def _visibility(nusc: NuScenesTables, annotation: dict) -> int:
    """Returns the visibility level 1 (below 40 %) to 4 (80 % or more), 0 where it is unknown.

    Raises:
        TableError: the visibility table has a level that nuScenes does not define.
    """
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
