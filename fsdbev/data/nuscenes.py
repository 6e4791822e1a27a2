"""nuScenes tables, read through the devkit, -> frame index.

Any version, split (the official ones and those of ``splits.json``) and rig of the nuScenes format.
Nothing else in ``data`` loads the devkit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import create_splits_scenes, get_scenes_of_split
from pyquaternion import Quaternion

from fsdbev.structures import CLASS_NAMES

from .index import write_index
from .records import Annotations, Frame, Lidar

#: Order of nuScenes' cameras; those of another rig follow by name.
CAMERA_ORDER = (
    "CAM_FRONT_LEFT",
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_LEFT",
    "CAM_BACK",
    "CAM_BACK_RIGHT",
)
REFERENCE_CHANNEL = "CAM_FRONT"
LIDAR_CHANNEL = "LIDAR_TOP"
_OFFICIAL_SPLITS = {
    "trainval": ("train", "val"),
    "mini": ("mini_train", "mini_val"),
    "test": ("test",),
}
_TABLES = (
    "category",
    "attribute",
    "visibility",
    "instance",
    "sensor",
    "calibrated_sensor",
    "ego_pose",
    "log",
    "scene",
    "sample",
    "sample_data",
    "sample_annotation",
    "map",
)

logger = logging.getLogger(__name__)


def check_tables(dataroot: str | os.PathLike, version: str) -> None:
    """Raises FileNotFoundError that lists the tables missing in ``<dataroot>/<version>``."""
    folder = Path(dataroot) / version
    missing = [f"{name}.json" for name in _TABLES if not (folder / f"{name}.json").is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: missing {', '.join(missing)}; unpack the metadata of {version} there, or "
            "name another --dataroot or --version"
        )


def load_nuscenes(dataroot: str | os.PathLike, version: str) -> NuScenes:
    """Loads the tables of ``<dataroot>/<version>``, which must be complete."""
    check_tables(dataroot, version)
    return NuScenes(version=version, dataroot=str(dataroot), verbose=False)


def tables_fingerprint(dataroot: str | os.PathLike, version: str) -> str:
    """Short hash of the tables' sizes and ends: changes when the data set is made anew."""
    digest = hashlib.sha256()
    for path in sorted((Path(dataroot) / version).glob("*.json")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with open(path, "rb") as file:
            digest.update(file.read(1 << 16))
            file.seek(max(0, size - (1 << 16)))
            digest.update(file.read())
    return digest.hexdigest()[:16]


def available_splits(dataroot: str | os.PathLike, version: str) -> list[str]:
    """Splits that hold at least one scene of this version: official ones first, then custom ones.

    Reads only the scene table.
    """
    folder = Path(dataroot) / version
    scenes = {scene["name"] for scene in json.loads((folder / "scene.json").read_text())}
    names = [s for end, own in _OFFICIAL_SPLITS.items() if version.endswith(end) for s in own]
    custom = folder / "splits.json"
    if custom.is_file():
        names += [name for name in json.loads(custom.read_text()) if name not in names]
    return [name for name in names if scenes & _scene_names(dataroot, version, name)]


def _scene_names(dataroot: str | os.PathLike, version: str, split: str) -> set[str]:
    """Names of a split's scenes, from the devkit, which asks of the tables only where they are.

    Raises:
        ValueError: the devkit doesn't know the split.
    """
    where = SimpleNamespace(dataroot=str(dataroot), version=version)
    try:
        return set(get_scenes_of_split(split, where))
    except ValueError as error:
        raise ValueError(
            f"{version} has no split {split!r}: {error} Official splits are "
            f"{sorted(create_splits_scenes())}; any other must be in splits.json"
        ) from error


def build_index(
    nusc: NuScenes,
    split: str,
    path: str | os.PathLike,
    *,
    channels: Sequence[str] | None = None,
    reference_channel: str | None = None,
) -> int:
    """Writes the index of one split; returns its number of samples.

    Args:
        nusc: loaded tables.
        split: official or custom split name.
        path: the index file.
        channels: cameras to take, in this order; None takes all the version has.
        reference_channel: camera whose ego pose is key ego; None means CAM_FRONT, or the first
            camera of a rig without one.

    Raises:
        ValueError: unknown split, no scene of it in this version, or a sample without a camera.
    """
    names = _scene_names(nusc.dataroot, nusc.version, split)
    scenes = sorted((s for s in nusc.scene if s["name"] in names), key=lambda s: s["name"])
    if not scenes:
        raise ValueError(f"{nusc.version} at {nusc.dataroot} holds no scene of split {split!r}")
    channels = list(channels or camera_channels(nusc))
    if reference_channel is None:
        reference_channel = REFERENCE_CHANNEL if REFERENCE_CHANNEL in channels else channels[0]
    if reference_channel not in channels:
        raise ValueError(f"reference channel {reference_channel!r} is not one of {channels}")
    info = {
        "dataset": "nuscenes",
        "dataset_version": nusc.version,
        "split": split,
        "source": tables_fingerprint(nusc.dataroot, nusc.version),
        "lidarseg_classes": json.dumps(lidarseg_classes(nusc)),
    }
    rows = list(_rows(nusc, scenes, channels, channels.index(reference_channel)))
    write_index(path, rows, info)
    logger.info("%s: %d samples of %d scenes, cameras %s", path, len(rows), len(scenes), channels)
    return len(rows)


def camera_channels(nusc: NuScenes) -> list[str]:
    """Camera channels of a version: nuScenes' order first, others by name."""
    found = {s["channel"] for s in nusc.sensor if s["modality"] == "camera"}
    if not found:
        raise ValueError(f"{nusc.dataroot}: the sensor table of {nusc.version} has no camera")
    return [c for c in CAMERA_ORDER if c in found] + sorted(found - set(CAMERA_ORDER))


def lidarseg_classes(nusc: NuScenes) -> list[int]:
    """Class id of every lidarseg category index, -1 for background; empty without lidarseg."""
    if not hasattr(nusc, "lidarseg"):
        return []
    class_ids = [-1] * (1 + max(category["index"] for category in nusc.category))
    for category in nusc.category:
        class_ids[category["index"]] = _class_id(category["name"])
    return class_ids


def _class_id(category_name: str) -> int:
    """Index into CLASS_NAMES of a nuScenes category, -1 for what is not detected."""
    name = category_to_detection_name(category_name)
    return -1 if name is None else CLASS_NAMES.index(name)


def _rows(
    nusc: NuScenes, scenes: Sequence[dict], channels: Sequence[str], reference: int
) -> Iterator[tuple[Frame, Annotations]]:
    row = 0
    for scene in scenes:
        first, token = row, scene["first_sample_token"]
        while token:
            sample = nusc.get("sample", token)
            previous = row - 1 if row > first else -1
            following = row + 1 if sample["next"] else -1
            frame = _frame(nusc, scene, sample, channels, reference, (previous, following))
            yield frame, _annotations(nusc, sample, frame.key_ego2global)
            token, row = sample["next"], row + 1


def _frame(
    nusc: NuScenes,
    scene: dict,
    sample: dict,
    channels: Sequence[str],
    reference: int,
    neighbours: tuple[int, int],
) -> Frame:
    missing = [channel for channel in channels if channel not in sample["data"]]
    if missing:
        raise ValueError(
            f"sample {sample['token']} has no {missing}; choose the cameras all samples have"
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
        image_sizes=np.array([(r["width"], r["height"]) for r in records], np.int32),
        camera_timestamps=np.array([r["timestamp"] for r in records], np.int64),
        intrinsics=np.array([c["camera_intrinsic"] for c in calibrations], np.float64),
        cam2ego=np.stack([_pose(c) for c in calibrations]),
        ego2global=np.stack([_pose(nusc.get("ego_pose", r["ego_pose_token"])) for r in records]),
        reference_camera=reference,
        lidar=_lidar(nusc, sample),
    )


def _pose(record: dict) -> np.ndarray:
    """(4, 4) from a record's translation and rotation."""
    pose = Quaternion(record["rotation"]).transformation_matrix
    pose[:3, 3] = record["translation"]
    return pose


def _lidar(nusc: NuScenes, sample: dict) -> Lidar | None:
    token = sample["data"].get(LIDAR_CHANNEL)
    if token is None:
        return None
    record = nusc.get("sample_data", token)
    return Lidar(
        path=record["filename"],
        timestamp=record["timestamp"],
        lidar2ego=_pose(nusc.get("calibrated_sensor", record["calibrated_sensor_token"])),
        ego2global=_pose(nusc.get("ego_pose", record["ego_pose_token"])),
        lidarseg_path=_lidarseg_path(nusc, token),
    )


def _lidarseg_path(nusc: NuScenes, lidar_token: str) -> str | None:
    """Label file of a sweep; None where there is none: no lidarseg at all, or not of this sweep."""
    if not hasattr(nusc, "lidarseg"):
        return None
    try:
        return nusc.get("lidarseg", lidar_token)["filename"]
    except KeyError:
        return None


def _annotations(nusc: NuScenes, sample: dict, key_ego2global: np.ndarray) -> Annotations:
    """Annotations of the detection classes; positions go from global to key ego in float64."""
    records = [nusc.get("sample_annotation", token) for token in sample["anns"]]
    records = [r for r in records if _class_id(r["category_name"]) >= 0]
    if not records:
        return Annotations.empty()
    global2key = np.linalg.inv(key_ego2global)
    poses = global2key @ np.stack([_pose(r) for r in records])
    velocity = np.stack([nusc.box_velocity(r["token"]) for r in records]) @ global2key[:3, :3].T
    width_length_height = np.array([r["size"] for r in records])
    attributes = [
        [nusc.get("attribute", t)["name"] for t in r["attribute_tokens"]] for r in records
    ]
    return Annotations(
        tokens=tuple(r["token"] for r in records),
        instance_tokens=tuple(r["instance_token"] for r in records),
        attributes=tuple(names[0] if names else "" for names in attributes),
        class_ids=np.array([_class_id(r["category_name"]) for r in records], np.int8),
        visibility=np.array([int(r["visibility_token"] or 0) for r in records], np.int8),
        num_lidar_points=np.array([r["num_lidar_pts"] for r in records], np.int32),
        num_radar_points=np.array([r["num_radar_pts"] for r in records], np.int32),
        center=poses[:, :3, 3].astype(np.float32),
        size=width_length_height[:, [1, 0, 2]].astype(np.float32),
        rotation=poses[:, :3, :3].astype(np.float32),
        velocity=np.nan_to_num(velocity[:, :2]).astype(np.float32),
    )
