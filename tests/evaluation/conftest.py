"""A data set of a few tables in nuScenes format: two cameras, all ten classes, a tilted ego."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from PIL import Image
from pyquaternion import Quaternion

from fsdbev.d2.structures import Instances
from fsdbev.evaluation import attribute_of
from fsdbev.structures import CLASS_NAMES, Boxes3D, invert

sys.path.insert(0, str(Path(__file__).parent))

CHANNELS = ("CAM_FRONT_LEFT", "CAM_FRONT", "LIDAR_TOP")
CATEGORIES = (
    "vehicle.car",
    "vehicle.truck",
    "vehicle.construction",
    "vehicle.bus.rigid",
    "vehicle.trailer",
    "movable_object.barrier",
    "vehicle.motorcycle",
    "vehicle.bicycle",
    "human.pedestrian.adult",
    "movable_object.trafficcone",
)
ATTRIBUTES = sorted({attribute_of(name, speed) for name in CLASS_NAMES for speed in (0, 1)} - {""})


def _pose(channel: int, time: float) -> dict:
    """The ego drives at 5 m/s along its heading, rolled and pitched by about a degree."""
    seconds = time + 0.02 * channel
    heading = Quaternion(axis=(0, 0, 1), radians=2.0 + 0.05 * seconds)
    tilt = Quaternion(axis=(1, 0, 0), degrees=1.0) * Quaternion(axis=(0, 1, 0), degrees=0.7)
    forward = heading.rotate(np.array([5.0 * seconds, 0, 0]))
    return {
        "translation": (np.array([1200.0, 850.0, 0.3]) + forward).tolist(),
        "rotation": (heading * tilt).elements.tolist(),
    }


def _annotation(number: int, time: float) -> dict:
    """Object ``number`` of class ``number % 10``, around the start; some of them move."""
    class_id, angle = number % 10, 0.6 * number
    name = CLASS_NAMES[class_id]
    fixed = name in ("barrier", "traffic_cone") or number % 4 < 2
    velocity = np.zeros(2) if fixed else np.array([math.cos(angle), math.sin(angle)]) * 3
    radius = 8 + (number * 7) % 17
    start = np.array([1200 + radius * math.cos(angle), 850 + radius * math.sin(angle)])
    attribute = attribute_of(name, float(np.linalg.norm(velocity)))
    return {
        "attribute_tokens": [attribute] if attribute else [],
        "translation": [*(start + time * velocity).tolist(), 1.0],
        "size": [1.5 + 0.1 * class_id, 3.0 + 0.2 * class_id, 1.6],
        "rotation": Quaternion(axis=(0, 0, 1), radians=angle).elements.tolist(),
        "visibility_token": "4",
        "num_lidar_pts": 5,
        "num_radar_pts": 0,
        "instance_token": f"instance{number}",
    }


def _chain(records: list[dict]) -> None:
    for i, record in enumerate(records):
        record["prev"] = records[i - 1]["token"] if i else ""
        record["next"] = records[i + 1]["token"] if i + 1 < len(records) else ""


def write_tables(
    root: Path, version: str, scenes: dict[str, int], num_objects: int, splits: dict | None = None
) -> None:
    """Writes ``version`` with ``scenes`` (name -> number of samples) of ``num_objects`` each."""
    names = "log scene sample instance sample_data sample_annotation ego_pose"
    tables: dict[str, list] = {name: [] for name in names.split()}
    (root / "maps").mkdir(exist_ok=True)
    Image.new("L", (8, 8)).save(root / "maps" / "blank.png")
    tables["map"] = [{"token": "map", "log_tokens": [], "filename": "maps/blank.png"}]
    tables["category"] = [{"token": c, "name": c, "description": ""} for c in CATEGORIES]
    tables["attribute"] = [{"token": a, "name": a, "description": ""} for a in ATTRIBUTES]
    tables["visibility"] = [{"token": "4", "level": "v80-100", "description": ""}]
    tables["sensor"] = [
        {"token": c, "channel": c, "modality": "lidar" if "LIDAR" in c else "camera"}
        for c in CHANNELS
    ]
    tables["calibrated_sensor"] = [
        {"token": c, "sensor_token": c, "translation": [0, 0, 1], "rotation": [1, 0, 0, 0]}
        for c in CHANNELS
    ]
    for scene, count in scenes.items():
        samples = [
            {"token": f"{scene}_{i}", "timestamp": 10**9 + 500_000 * i, "scene_token": scene}
            for i in range(count)
        ]
        _chain(samples)
        tables["scene"].append({"token": scene, "name": scene, "nbr_samples": count})
        tables["sample"] += samples
        for number in range(num_objects):
            annotations = [
                {
                    "token": f"{scene}_{i}_{number}",
                    "sample_token": samples[i]["token"],
                    **_annotation(number, 0.5 * i),
                    "instance_token": f"{scene}_{number}",
                }
                for i in range(count)
            ]
            _chain(annotations)
            tables["sample_annotation"] += annotations
            category = CATEGORIES[number % 10]
            tables["instance"].append({"token": f"{scene}_{number}", "category_token": category})
        for i, sample in enumerate(samples):
            for number, channel in enumerate(CHANNELS):
                token = f"{sample['token']}_{channel}"
                tables["ego_pose"].append({"token": token, **_pose(number, 0.5 * i)})
                tables["sample_data"].append(
                    {
                        "token": token,
                        "sample_token": sample["token"],
                        "ego_pose_token": token,
                        "calibrated_sensor_token": channel,
                        "is_key_frame": True,
                        "fileformat": "pcd" if "LIDAR" in channel else "jpg",
                    }
                )
    folder = root / version
    folder.mkdir(parents=True)
    for name, records in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(records))
    if splits:
        (folder / "splits.json").write_text(json.dumps(splits))


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``v1.0-tiny`` (splits ``tiny_train``, ``tiny_val``), ``v1.0-mini`` with one sample of one
    scene of mini_train, ``v1.0-test`` without annotations."""
    root = tmp_path_factory.mktemp("tiny_nuscenes")
    splits = {"tiny_train": ["one"], "tiny_val": ["two"]}
    write_tables(root, "v1.0-tiny", {"one": 2, "two": 3}, 20, splits)
    write_tables(root, "v1.0-mini", {"scene-0061": 1}, 20)
    write_tables(root, "v1.0-test", {"scene-0077": 2}, 0)
    return root


@pytest.fixture
def truth_of() -> Callable[[NuScenes, str], tuple[dict, dict]]:
    """(tables, sample token) -> the sample dict and, as a perfect model's output, its truth."""

    def matrix(record: dict) -> torch.Tensor:
        a2b = np.eye(4)
        a2b[:3, :3] = Quaternion(record["rotation"]).rotation_matrix
        a2b[:3, 3] = record["translation"]
        return torch.from_numpy(a2b)

    def build(nusc: NuScenes, token: str) -> tuple[dict, dict]:
        sample = nusc.get("sample", token)
        records = [nusc.get("sample_data", sample["data"][c]) for c in CHANNELS[:2]]
        poses = torch.stack([matrix(nusc.get("ego_pose", r["ego_pose_token"])) for r in records])
        rows, labels = [], []
        for annotation in (nusc.get("sample_annotation", a) for a in sample["anns"]):
            width, length, height = annotation["size"]
            velocity = nusc.box_velocity(annotation["token"])
            heading = matrix(annotation)[:2, 0]
            yaw = float(torch.atan2(heading[1], heading[0]))
            velocity = np.nan_to_num(velocity[:2])
            rows.append([*annotation["translation"], length, width, height, yaw, *velocity])
            labels.append(
                CLASS_NAMES.index(category_to_detection_name(annotation["category_name"]))
            )
        in_global = Boxes3D(torch.tensor(rows, dtype=torch.float64))
        instances = Instances((256, 704))
        instances.pred_boxes_3d = in_global.transformed(invert(poses[1])).to(torch.float32)
        instances.scores = torch.linspace(0.9, 0.5, len(rows))
        instances.pred_classes = torch.tensor(labels, dtype=torch.int64)
        inputs = {
            "sample_token": token,
            "ego2global": poses[None],
            "reference_camera": 1,
            "bev_aug": torch.eye(4),
        }
        return inputs, {"instances": instances}

    return build
