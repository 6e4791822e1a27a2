"""A made-up data set in nuScenes' tables, without sensor data, and detections in it.

Scenes of 40 samples, half a second apart, of objects that stand or drive around a slow vehicle,
classes about as frequent as in nuScenes, and one bicycle rack a scene.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes

from fsdbev.data.synthetic.catalog import MEAN_SIZES, attribute, draw_category, draw_size
from fsdbev.data.synthetic.rig import LIDAR
from fsdbev.data.synthetic.tables import (
    Tables,
    common_tables,
    link,
    token,
    write_json,
    write_tables,
)
from fsdbev.evaluation import attribute_of

VERSION, SPLIT = "v1.0-madeup", "made_up"
SCENE_LENGTH = 40
STEP = 0.5  # metres and seconds from one sample to the next
REACH = 50.0
#: Share of a class among objects.
FREQUENCIES = {
    "car": 0.43,
    "pedestrian": 0.20,
    "barrier": 0.13,
    "traffic_cone": 0.09,
    "truck": 0.08,
    "trailer": 0.02,
    "bus": 0.014,
    "construction_vehicle": 0.013,
    "motorcycle": 0.012,
    "bicycle": 0.011,
}
#: Share of the objects in a sample that a detection is near.
FOUND = 0.85
_PLACE = np.array([1000.0, 800.0, 1.0])
_RACK, _RACK_SIZE = "static_object.bicycle_rack", (6.0, 2.0, 1.2)

Record = dict[str, Any]


def write_data_set(root: Path, samples: int, objects: int) -> None:
    """Writes version ``VERSION``; its split ``SPLIT`` has all samples, each of ``objects``."""
    rng = np.random.default_rng(0)
    tables = common_tables()
    tables["log"].append({"token": "log"})
    tables["map"].append({"token": "map", "log_tokens": ["log"], "filename": "maps/blank.png"})
    sensor = next(s["token"] for s in tables["sensor"] if s["channel"] == LIDAR)
    level = {"translation": [0, 0, 0], "rotation": [1, 0, 0, 0]}
    tables["calibrated_sensor"].append({"token": LIDAR, "sensor_token": sensor, **level})
    for start in range(0, samples, SCENE_LENGTH):
        _add_scene(tables, rng, f"scene {start}", min(SCENE_LENGTH, samples - start), objects)
    folder = root / VERSION
    folder.mkdir()
    del tables["lidarseg"]
    write_tables(tables, str(folder))
    write_json({SPLIT: [scene["name"] for scene in tables["scene"]]}, str(folder / "splits.json"))
    (root / "maps").mkdir()
    cv2.imwrite(str(root / "maps/blank.png"), np.zeros((8, 8), np.uint8))


def detections(nusc: NuScenes, boxes: int) -> dict[str, list[Record]]:
    """Submission of ``boxes`` a sample, best first: most true ones a little off, others made up."""
    rng = np.random.default_rng(1)
    results = {}
    for sample in nusc.sample:
        true = [nusc.get("sample_annotation", name) for name in sample["anns"]]
        found = [box for record in true for box in _near(rng, record)][:boxes]
        found += [_anywhere(rng, sample["token"]) for _ in range(boxes - len(found))]
        results[sample["token"]] = sorted(found, key=lambda box: -box["detection_score"])
    return results


def _add_scene(
    tables: Tables, rng: np.random.Generator, name: str, length: int, objects: int
) -> None:
    tables["scene"].append({"token": name, "name": name, "log_token": "log"})
    samples = [
        {"token": token(name, i), "timestamp": 10**15 + int(i * STEP * 1e6), "scene_token": name}
        for i in range(length)
    ]
    link(samples)
    tables["sample"] += samples
    for i, sample in enumerate(samples):
        key = sample["token"]
        pose = {"translation": [_PLACE[0] + STEP * i, _PLACE[1], 0.0], "rotation": [1, 0, 0, 0]}
        tables["ego_pose"].append({"token": key, "timestamp": sample["timestamp"], **pose})
        of = {"sample_token": key, "ego_pose_token": key, "calibrated_sensor_token": LIDAR}
        tables["sample_data"].append(
            {"token": key, "is_key_frame": True, "fileformat": "pcd", **of}
        )
    classes = rng.choice(list(FREQUENCIES), objects, p=_probabilities())
    for number, class_name in enumerate(classes):
        category = draw_category(class_name, rng) if number else _RACK
        instance = {"token": token(name, number), "category_token": token("category", category)}
        tables["instance"].append(instance)
        annotations = list(_annotations(rng, samples, instance["token"], class_name, category))
        link(annotations)
        tables["sample_annotation"] += annotations


def _annotations(
    rng: np.random.Generator,
    samples: list[Record],
    instance: str,
    class_name: str,
    category: str,
) -> Iterator[Record]:
    """An object in all samples of its scene; seven in ten stand still."""
    place, yaw = rng.uniform(-REACH, REACH, 2), rng.uniform(-math.pi, math.pi)
    is_rack = category == _RACK
    speed = 0.0 if is_rack or rng.random() < 0.7 else 1.0
    size = draw_size(class_name, category, rng, ridden=False, moving=speed > 0)
    length, width, height = _RACK_SIZE if is_rack else size
    name = None if is_rack else attribute(class_name, speed, ridden=speed > 0, on_road=True)
    for i, sample in enumerate(samples):
        x, y = place + STEP * i * speed * np.array([math.cos(yaw), math.sin(yaw)])
        yield {
            "token": token(instance, i),
            "sample_token": sample["token"],
            "instance_token": instance,
            "attribute_tokens": [token("attribute", name)] if name else [],
            "visibility_token": "4",
            "translation": (_PLACE + (x, y, 0.0)).tolist(),
            "size": [width, length, height],
            "rotation": _rotation(yaw),
            "num_lidar_pts": int(rng.integers(0, 20)),
            "num_radar_pts": 0,
        }


def _near(rng: np.random.Generator, true: Record) -> Iterator[Record]:
    """A detection of a true box, if it is of a class and found."""
    name = category_to_detection_name(true["category_name"])
    if name and rng.random() < FOUND:
        yaw = 2 * math.atan2(true["rotation"][3], true["rotation"][0]) + rng.normal(0, 0.2)
        place = np.array(true["translation"]) + rng.normal(0, 0.6, 3)
        size = np.array(true["size"]) * rng.uniform(0.9, 1.1, 3)
        yield _detection(rng, true["sample_token"], name, place, size, yaw, rng.random() ** 0.5)


def _anywhere(rng: np.random.Generator, sample: str) -> Record:
    name = str(rng.choice(list(FREQUENCIES), p=_probabilities()))
    length, width, height = MEAN_SIZES[name]
    place = _PLACE + (*rng.uniform(-REACH, REACH, 2), 0.0)
    size, yaw = np.array([width, length, height]), rng.uniform(-math.pi, math.pi)
    return _detection(rng, sample, name, place, size, yaw, rng.random() ** 3)


def _detection(
    rng: np.random.Generator,
    sample: str,
    name: str,
    place: np.ndarray,
    size: np.ndarray,
    yaw: float,
    score: float,
) -> Record:
    velocity = rng.normal(0, 0.3, 2)
    return {
        "sample_token": sample,
        "translation": place.tolist(),
        "size": size.tolist(),
        "rotation": _rotation(yaw),
        "velocity": velocity.tolist(),
        "detection_name": name,
        "detection_score": float(score),
        "attribute_name": attribute_of(name, float(np.linalg.norm(velocity))),
    }


def _rotation(yaw: float) -> list[float]:
    return [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]


def _probabilities() -> np.ndarray:
    shares = np.array(list(FREQUENCIES.values()))
    return shares / shares.sum()
