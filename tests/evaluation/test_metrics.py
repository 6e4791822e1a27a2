"""Metrics on arrays against the devkit's own: the same numbers within 1e-9."""

import json
import math

import numpy as np
import pytest
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.constants import ATTRIBUTE_NAMES, DETECTION_NAMES, TP_METRICS
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.nuscenes import NuScenes
from pyquaternion import Quaternion

from fsdbev.evaluation.box_arrays import arrays_of_submission
from fsdbev.evaluation.metrics import score
from fsdbev.evaluation.scoring import differences
from fsdbev.evaluation.truth import read_truth

CONFIG = config_factory("detection_cvpr_2019")
EGO = np.array([1200.0, 850.0, 0.0])
#: Category by class, and two that are no class.
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
#: Places that two-wheelers, racks and the edges of the evaluated ranges share.
PLACES = [(3, 4), (4, 4), (30, 0), (24, 18), (0, 40), (32, 24), (-50, 0), (30, 40), (-8, 6)]


class InMemoryTables(NuScenes):
    """What the devkit's evaluation reads of its tables, without files."""

    def __init__(self, dataroot, **tables):
        self.version, self.dataroot, self.table_names = "v1.0-drawn", str(dataroot), list(tables)
        self._places = {
            name: {record["token"]: i for i, record in enumerate(records)}
            for name, records in tables.items()
        }
        for name, records in tables.items():
            setattr(self, name, records)

    def getind(self, table_name, token):
        return self._places[table_name][token]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data root that has scene ``scene`` in split ``drawn``."""
    root = tmp_path_factory.mktemp("drawn")
    (root / "v1.0-drawn").mkdir()
    (root / "v1.0-drawn/splits.json").write_text('{"drawn": ["scene"]}')
    return root


def draw_tables(rng, dataroot, *, samples, objects, coarse, classes):
    """One scene. ``coarse``: places in steps of half a metre; else anywhere."""
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
    # No centre on the lattice is on a rack's border, where rounding decides.
    size = [2.2, 4.2, 2.2] if coarse else rng.uniform(0.5, 6, 3).tolist()
    return {
        "token": token,
        "sample_token": sample["token"],
        "category_name": CATEGORIES[name],
        "attribute_tokens": [f"token of {rng.choice(ATTRIBUTE_NAMES)}"] if attribute else [],
        "translation": _place(rng, coarse),
        "size": size,
        "rotation": _rotation(rng, coarse),
        "num_lidar_pts": int(rng.integers(0, 3)) if number else 1,
        "num_radar_pts": int(rng.integers(0, 2)),
        "prev": "",
        "next": "",
    }


def _place(rng, coarse):
    place = PLACES[rng.integers(len(PLACES))]
    offset = rng.integers(-4, 5, 3) / 2 if coarse else rng.normal(0, 1.5, 3)
    return (EGO + (*place, 1) + offset).tolist()


def _rotation(rng, coarse):
    if coarse:
        return Quaternion(axis=(0, 0, 1), degrees=int(rng.integers(-4, 5)) * 90).elements.tolist()
    return (rng.normal(size=4) * (1, 0.01, 0.01, 1)).tolist()  # its norm is not 1 either


def draw_submission(rng, nusc, *, boxes, coarse, classes, scores):
    """Some true boxes a little off, some elsewhere; ``scores``: how many different ones."""
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
                    "translation": shift if near else _place(rng, coarse),
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


def tokens_of(nusc):
    return [sample["token"] for sample in nusc.sample]


def assert_same(nusc, results, folder):
    """Scores the submission by the devkit and here; returns what was scored here."""
    path = folder / "results.json"
    path.write_text(json.dumps({"meta": {}, "results": results}))
    devkit = DetectionEval(nusc, CONFIG, str(path), "drawn", str(folder), verbose=False)
    metrics, curves = devkit.evaluate()
    truth = read_truth(nusc, tokens_of(nusc), CONFIG)
    ours = score(arrays_of_submission(results), truth, CONFIG)
    assert differences(ours.metrics.serialize(), metrics.serialize(), 1e-9) == {}
    found, expected = ours.curves.serialize(), curves.serialize()
    assert found.keys() == expected.keys()
    for key, curve in expected.items():
        np.testing.assert_allclose(
            list(found[key].values()), list(curve.values()), rtol=0, atol=1e-9, err_msg=key
        )
    return ours


KINDS = [list(CATEGORIES), ["bicycle", "motorcycle", "rack"], ["barrier", "traffic_cone", "car"]]


@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize("classes", KINDS)
@pytest.mark.parametrize("scores", [0, 1, 7])
def test_random_submissions(folder, coarse, classes, scores):
    """Equal scores, equal distances, distances equal to thresholds and ranges, boxes in bicycle
    racks, unknown velocities, no attribute, no point, gaps in time, missing classes."""
    for seed in range(3):
        rng = np.random.default_rng([seed, scores, coarse, len(classes)])
        samples, objects, boxes = rng.integers(1, (5, 25, 40))
        kinds = {"coarse": coarse, "classes": classes}
        nusc = draw_tables(rng, folder, samples=samples, objects=objects, **kinds)
        results = draw_submission(rng, nusc, boxes=boxes, scores=scores, **kinds)
        assert_same(nusc, results, folder)


def test_many_boxes(folder):
    """As dense as in practice; here every kind of match is known to occur."""
    rng = np.random.default_rng(5)
    kinds = {"coarse": False, "classes": list(CATEGORIES)}
    nusc = draw_tables(rng, folder, samples=4, objects=80, **kinds)
    results = draw_submission(rng, nusc, boxes=150, scores=0, **kinds)
    scores = assert_same(nusc, results, folder)
    assert all(ap > 0 for ap in scores.metrics.mean_dist_aps.values())
    assert all(0 < error < math.inf and error != 1 for error in scores.metrics.tp_errors.values())
    assert np.isnan(scores.matches.errors).any(axis=1).tolist() == [
        metric in ("vel_err", "attr_err") for metric in TP_METRICS
    ]


def test_what_is_left_out(folder):
    """Boxes in racks, out of range and without points are drawn, so that leaving them out shows."""
    rng = np.random.default_rng(0)
    kinds = {"coarse": True, "classes": ["bicycle", "motorcycle", "rack", "animal"]}
    nusc = draw_tables(rng, folder, samples=5, objects=60, **kinds)
    truth = read_truth(nusc, tokens_of(nusc), CONFIG)
    boxes = [a for a in nusc.sample_annotation if a["category_name"].startswith("vehicle")]
    seen = [a for a in boxes if a["num_lidar_pts"] + a["num_radar_pts"]]
    without_racks = [a for a in nusc.sample_annotation if a["category_name"] != CATEGORIES["rack"]]
    for sample in nusc.sample:
        kept = {a["token"] for a in without_racks}
        sample["anns"] = [token for token in sample["anns"] if token in kept]
    outside = read_truth(nusc, tokens_of(nusc), CONFIG)
    assert 0 < len(truth.boxes) < len(outside.boxes) < len(seen) < len(boxes)


def test_two_attributes_are_an_error(folder):
    rng = np.random.default_rng(0)
    nusc = draw_tables(rng, folder, samples=1, objects=1, coarse=True, classes=["car"])
    nusc.sample_annotation[0]["attribute_tokens"] = ["one", "other"]
    with pytest.raises(ValueError, match="annotation sample0_0 has 2 attributes"):
        read_truth(nusc, ["sample0"], CONFIG)


def test_differences_of_summaries():
    one = {"mean_ap": 0.5, "label_aps": {"car": {0.5: math.nan}}, "eval_time": 1.0, "cfg": {"x": 1}}
    other = {**one, "mean_ap": 0.5 + 1e-7, "eval_time": 2.0, "cfg": {"x": 2}}
    assert differences(one, other, 1e-6) == {}
    assert differences(one, other, 1e-8) == {"mean_ap": (0.5, 0.5 + 1e-7)}
    ((name, values),) = differences(one, {"label_aps": {"car": {0.5: 0.25}}}, 1e-6).items()
    assert name == "label_aps/car/0.5" and math.isnan(values[0]) and values[1] == 0.25
