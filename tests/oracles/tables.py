"""Random nuScenes tables for the devkit's evaluation, and random submissions."""

import json
import math

import numpy as np
from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES, DETECTION_NAMES
from nuscenes.nuscenes import NuScenes
from pyquaternion import Quaternion

VERSION, SPLIT = "v1.0-drawn", "drawn"
EGO = np.array([1200.0, 850.0, 0.0])
#: Class -> category; the last two categories belong to no class.
CATEGORIES = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.bendy",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "pedestrian": "human.pedestrian.child",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
    "rack": "static_object.bicycle_rack",
    "animal": "animal",
}
#: Positions near which objects are drawn, in metres from ``EGO``. Two-wheelers and racks share
#: them, and some are at the limit of a class's evaluated range.
POSITIONS = [(3, 4), (4, 4), (30, 0), (24, 18), (0, 40), (32, 24), (-50, 0), (30, 40), (-8, 6)]


class InMemoryTables(NuScenes):
    """The tables that the devkit's evaluation reads, without files."""

    def __init__(self, dataroot, **tables):
        self.version, self.dataroot, self.table_names = VERSION, str(dataroot), list(tables)
        self._indices = {
            name: {record["token"]: i for i, record in enumerate(records)}
            for name, records in tables.items()
        }
        for name, records in tables.items():
            setattr(self, name, records)

    def getind(self, table_name, token):
        return self._indices[table_name][token]


def write_splits(dataroot):
    """Writes the split with the scene of ``draw_tables``."""
    (dataroot / VERSION).mkdir()
    (dataroot / VERSION / "splits.json").write_text(json.dumps({SPLIT: ["scene"]}))


def draw_tables(rng, dataroot, *, samples, objects, coarse, classes):
    """Draws the tables of one scene.

    Args:
        rng: NumPy generator.
        dataroot: data root of the tables, which is not read.
        samples: number of samples.
        objects: number of objects, each annotated in some samples.
        coarse: positions in steps of half a metre, so that distances are equal often; else
            positions anywhere.
        classes: keys of ``CATEGORIES`` that objects may have.
    """
    steps = rng.choice([500_000, 400_123, 2_000_000], samples)
    records = [
        {
            "token": f"sample{i}",
            "scene_token": "scene",
            "timestamp": 10**15 + int(stamp),
            "data": {"LIDAR_TOP": f"sample{i}"},
            "anns": [],
        }
        for i, stamp in enumerate(np.cumsum(steps))
    ]
    poses = [
        {"token": r["token"], "translation": (EGO + (0.5 * i, 0, 0)).tolist()}
        for i, r in enumerate(records)
    ]
    annotations = []
    for number in range(objects):
        name = "car" if not number else str(rng.choice(classes))
        seen = np.flatnonzero(rng.random(samples) < 0.8) if number else np.arange(samples)
        chain = [_annotation(rng, number, name, records[i], coarse) for i in seen]
        for one, other in zip(chain, chain[1:]):
            one["next"], other["prev"] = other["token"], one["token"]
        annotations += chain
    return InMemoryTables(
        dataroot,
        scene=[{"token": "scene", "name": "scene"}],
        sample=records,
        sample_data=[{"token": r["token"], "ego_pose_token": r["token"]} for r in records],
        ego_pose=poses,
        category=[{"token": name, "name": name} for name in CATEGORIES.values()],
        attribute=[{"token": f"token of {name}", "name": name} for name in ATTRIBUTE_NAMES],
        sample_annotation=annotations,
    )


def _annotation(rng, number, name, sample, coarse):
    token = f"{sample['token']}_{number}"
    sample["anns"].append(token)
    attribute = rng.random() < 0.7 and name not in ("barrier", "traffic_cone")
    # Half a metre times an integer is never the border of a rack of this size, where rounding
    # would decide whether an object is inside.
    size = [2.2, 4.2, 2.2] if coarse else rng.uniform(0.5, 6, 3).tolist()
    return {
        "token": token,
        "sample_token": sample["token"],
        "category_name": CATEGORIES[name],
        "attribute_tokens": [f"token of {rng.choice(ATTRIBUTE_NAMES)}"] if attribute else [],
        "translation": _position(rng, coarse),
        "size": size,
        "rotation": _rotation(rng, coarse),
        "num_lidar_pts": int(rng.integers(0, 3)) if number else 1,
        "num_radar_pts": int(rng.integers(0, 2)),
        "prev": "",
        "next": "",
    }


def _position(rng, coarse):
    position = POSITIONS[rng.integers(len(POSITIONS))]
    offset = rng.integers(-4, 5, 3) / 2 if coarse else rng.normal(0, 1.5, 3)
    return (EGO + (*position, 1) + offset).tolist()


def _rotation(rng, coarse):
    if coarse:
        return Quaternion(axis=(0, 0, 1), degrees=int(rng.integers(-4, 5)) * 90).elements.tolist()
    return (rng.normal(size=4) * (1, 0.01, 0.01, 1)).tolist()  # not a unit quaternion


def draw_submission(rng, nusc, *, boxes, coarse, classes, scores):
    """Draws a submission: some boxes near annotations, some elsewhere.

    Args:
        rng: NumPy generator.
        nusc: tables of ``draw_tables``.
        boxes: number of boxes per sample.
        coarse: positions in steps of half a metre.
        classes: classes whose annotations may get a box nearby.
        scores: number of different scores; 0: any score.
    """
    results = {}
    for sample in nusc.sample:
        found = []
        for number in range(boxes):
            true = nusc.get("sample_annotation", sample["anns"][number % len(sample["anns"])])
            name = next(
                n for n, category in CATEGORIES.items() if category == true["category_name"]
            )
            near = name in classes and name in DETECTION_NAMES and rng.random() < 0.7
            offset = rng.integers(-4, 5, 3) / 2 if coarse else rng.normal(0, 1, 3)
            shift = (np.array(true["translation"]) + offset).tolist()
            value = rng.integers(0, scores) / scores if scores else rng.random()
            attribute = rng.choice(["", *ATTRIBUTE_NAMES])
            found.append(
                {
                    "sample_token": sample["token"],
                    "translation": shift if near else _position(rng, coarse),
                    "size": [2.0, 4, 2.5] if coarse else rng.uniform(0.5, 6, 3).tolist(),
                    "rotation": _rotation(rng, coarse),
                    "velocity": (
                        [math.nan] * 2 if rng.random() < 0.1 else rng.normal(size=2).tolist()
                    ),
                    "detection_name": name if near else str(rng.choice(DETECTION_NAMES)),
                    "detection_score": float(value),
                    "attribute_name": str(attribute),
                }
            )
        results[sample["token"]] = found
    return results
