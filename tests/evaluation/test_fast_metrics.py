"""Metrics by arrays against the devkit's own: the same numbers, to the last bit."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.utils import quaternion_yaw
from nuscenes.eval.detection.evaluate import DetectionEval
from oracles.tables import CATEGORIES, EGO, draw_submission, draw_tables, write_splits
from pyquaternion import Quaternion

from fsdbev.evaluation.fast_metrics import accumulate, score, yaws
from fsdbev.evaluation.truth import read_truth

CONFIG = config_factory("detection_cvpr_2019")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data root that has scene ``scene`` in split ``drawn``."""
    root = tmp_path_factory.mktemp("drawn")
    write_splits(root)
    return root


def by_devkit(nusc, results, folder):
    path = folder / "results.json"
    path.write_text(json.dumps({"meta": {}, "results": results}))
    return DetectionEval(nusc, CONFIG, str(path), "drawn", str(folder), verbose=False).evaluate()


def as_text(metrics, curves):
    """Every number of both, in full; NaN is equal to NaN."""
    summary = {**metrics.serialize(), "eval_time": None}
    return json.dumps(summary), json.dumps(curves.serialize())


def assert_same(nusc, results, folder):
    truth = read_truth(nusc, [sample["token"] for sample in nusc.sample], CONFIG)
    ours = score(results, truth, CONFIG)
    assert as_text(*ours) == as_text(*by_devkit(nusc, results, folder))
    return ours[0]


@given(
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(1, 4),
    objects=st.integers(1, 25),
    boxes=st.integers(1, 40),
    coarse=st.booleans(),
    classes=st.sampled_from(
        [list(CATEGORIES), ["bicycle", "motorcycle", "rack"], ["barrier", "traffic_cone", "car"]]
    ),
    scores=st.sampled_from([0, 1, 2, 7]),
)
@settings(max_examples=80, deadline=None)
def test_random_submissions(folder, seed, samples, objects, boxes, coarse, classes, scores):
    """Equal scores, equal distances, distances equal to thresholds and ranges, boxes on the border
    of bicycle racks, unknown velocities, no attribute, no point, gaps in time, missing classes."""
    rng = np.random.default_rng(seed)
    world = {"samples": samples, "objects": objects, "coarse": coarse, "classes": classes}
    nusc = draw_tables(rng, folder, **world)
    found = {"boxes": boxes, "coarse": coarse, "classes": classes, "scores": scores}
    assert_same(nusc, draw_submission(rng, nusc, **found), folder)


@pytest.mark.parametrize("coarse", [True, False])
def test_many_boxes(folder, coarse):
    """As dense as in practice; here every kind of match is known to occur."""
    rng = np.random.default_rng(5)
    kinds = {"coarse": coarse, "classes": list(CATEGORIES)}
    nusc = draw_tables(rng, folder, samples=6, objects=80, **kinds)
    results = draw_submission(rng, nusc, boxes=200, scores=0, **kinds)
    metrics = assert_same(nusc, results, folder)
    assert all(ap > 0 for ap in metrics.mean_dist_aps.values())
    assert all(0 < error < math.inf and error != 1 for error in metrics.tp_errors.values())


def test_what_is_left_out(folder):
    """Boxes in racks, out of range and without points are drawn, so that leaving them out shows."""
    rng = np.random.default_rng(0)
    kinds = {"coarse": True, "classes": ["bicycle", "motorcycle", "rack", "animal"]}
    nusc = draw_tables(rng, folder, samples=5, objects=60, **kinds)
    truth = read_truth(nusc, [sample["token"] for sample in nusc.sample], CONFIG)
    boxes = [a for a in nusc.sample_annotation if a["category_name"].startswith("vehicle")]
    seen = [a for a in boxes if a["num_lidar_pts"] + a["num_radar_pts"]]
    without_racks = [a for a in nusc.sample_annotation if a["category_name"] != CATEGORIES["rack"]]
    for sample in nusc.sample:
        kept = {a["token"] for a in without_racks}
        sample["anns"] = [token for token in sample["anns"] if token in kept]
    outside = read_truth(nusc, [sample["token"] for sample in nusc.sample], CONFIG)
    assert 0 < len(truth.boxes) < len(outside.boxes) < len(seen) < len(boxes)


def test_velocities_are_the_devkits(folder):
    rng = np.random.default_rng(3)
    nusc = draw_tables(rng, folder, samples=8, objects=20, coarse=False, classes=["car"])
    for annotation in nusc.sample_annotation:
        annotation["translation"] = (EGO + rng.uniform(-20, 20, 3)).tolist()
        annotation["num_lidar_pts"] = 1
    truth = read_truth(nusc, [sample["token"] for sample in nusc.sample], CONFIG)
    expected = [nusc.box_velocity(token)[:2] for sample in nusc.sample for token in sample["anns"]]
    np.testing.assert_array_equal(truth.boxes.velocity, expected)
    assert 0 < np.isnan(truth.boxes.velocity).any(axis=1).sum() < len(truth.boxes) / 2


def test_yaws_do_not_depend_on_where_they_lie_in_memory():
    """numpy has two arctan2, which differ in the last bit, and chooses by the arrays' addresses."""
    quaternions = np.random.default_rng(0).normal(size=(1200, 4))
    expected = [quaternion_yaw(Quaternion(list(quaternion))) for quaternion in quaternions]
    for count in range(1, len(quaternions)):
        np.testing.assert_array_equal(yaws(quaternions[:count]), expected[:count])


def test_two_attributes_are_an_error(folder):
    rng = np.random.default_rng(0)
    nusc = draw_tables(rng, folder, samples=1, objects=1, coarse=True, classes=["car"])
    nusc.sample_annotation[0]["attribute_tokens"] = ["one", "other"]
    with pytest.raises(ValueError, match="annotation sample0_0 has 2 attributes"):
        read_truth(nusc, ["sample0"], CONFIG)


def test_another_distance_is_an_error():
    config = config_factory("detection_cvpr_2019")
    config.dist_fcn = "overlap"
    with pytest.raises(ValueError, match="overlap; evaluate with fast_metrics=False"):
        accumulate(None, None, config)
