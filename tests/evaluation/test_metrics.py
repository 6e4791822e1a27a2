"""Metrics on arrays, equal to the devkit's within 1e-9."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.evaluate import DetectionEval
from oracles.tables import CATEGORIES, draw_submission, draw_tables, write_splits

from fsdbev.evaluation.box_arrays import BoxArrays, submission_arrays
from fsdbev.evaluation.metrics import compute_metrics, score
from fsdbev.evaluation.nuscenes_truth import difference_from_nuscenes, nuscenes_task, read_truth
from fsdbev.evaluation.scoring import summary_differences
from fsdbev.evaluation.truth import GroundTruth
from fsdbev.structures import NUSCENES_CLASSES, ClassSet

TASK = nuscenes_task(NUSCENES_CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data root with scene ``scene`` in split ``drawn``."""
    root = tmp_path_factory.mktemp("drawn")
    write_splits(root)
    return root


def tokens_of(nusc):
    return [sample["token"] for sample in nusc.sample]


def assert_same(nusc, results, folder):
    """Scores the submission with the devkit and with ``score``; returns the latter's result."""
    path = folder / "results.json"
    path.write_text(json.dumps({"meta": {}, "results": results}))
    devkit = DetectionEval(nusc, TASK.config, str(path), "drawn", str(folder), verbose=False)
    metrics, curves = devkit.evaluate()
    truth = read_truth(nusc, tokens_of(nusc), NUSCENES_CLASSES)
    ours = score(submission_arrays(results, TASK.names, TASK.attributes), truth, TASK)
    assert summary_differences(ours.metrics.serialize(), metrics.serialize(), 1e-9) == {}
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
    """With equal scores, equal distances, distances equal to thresholds and ranges, boxes in
    bicycle racks, unknown velocities, no attribute, no point, gaps in time, missing classes."""
    for seed in range(3):
        rng = np.random.default_rng([seed, scores, coarse, len(classes)])
        samples, objects, boxes = rng.integers(1, (5, 25, 40))
        kinds = {"coarse": coarse, "classes": classes}
        nusc = draw_tables(rng, folder, samples=samples, objects=objects, **kinds)
        results = draw_submission(rng, nusc, boxes=boxes, scores=scores, **kinds)
        assert_same(nusc, results, folder)


def test_many_boxes(folder):
    """As dense as in practice; every kind of match occurs."""
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


def test_samples_that_count_several_times(folder):
    """Metrics with ``times`` are those of a data set with copies of the samples."""
    rng = np.random.default_rng(3)
    kinds = {"coarse": False, "classes": list(CATEGORIES)}
    nusc = draw_tables(rng, folder, samples=4, objects=60, **kinds)
    results = draw_submission(rng, nusc, boxes=80, scores=0, **kinds)
    truth = read_truth(nusc, tokens_of(nusc), NUSCENES_CLASSES)
    boxes = submission_arrays(results, TASK.names, TASK.attributes)
    times = np.array([3, 0, 1, 2])

    def copies(table):
        parts = [table.select(times[table.sample] > copy) for copy in range(3)]
        parts = [replace(part, sample=part.sample + 4 * copy) for copy, part in enumerate(parts)]
        return BoxArrays.concatenate(parts)

    scope = replace(
        truth.scope,
        ego=np.tile(truth.scope.ego, (3, 1)),
        regions=[(4 * copy + i, box) for copy in range(3) for i, box in truth.scope.regions],
    )
    expected = score(copies(boxes), GroundTruth(copies(truth.boxes), scope), TASK).metrics
    found, _ = compute_metrics(score(boxes, truth, TASK).matches, TASK, times)
    differences = summary_differences(found.serialize(), expected.serialize(), 1e-9)
    assert expected.mean_ap > 0 and differences == {}
    once, _ = compute_metrics(score(boxes, truth, TASK).matches, TASK)
    assert abs(once.mean_ap - found.mean_ap) > 1e-4


def test_the_tables_have_boxes_to_exclude(folder):
    """The random tables have boxes in racks, out of range and without points."""
    rng = np.random.default_rng(0)
    kinds = {"coarse": True, "classes": ["bicycle", "motorcycle", "rack", "animal"]}
    nusc = draw_tables(rng, folder, samples=5, objects=60, **kinds)
    truth = read_truth(nusc, tokens_of(nusc), NUSCENES_CLASSES)
    boxes = [a for a in nusc.sample_annotation if a["category_name"].startswith("vehicle")]
    seen = [a for a in boxes if a["num_lidar_pts"] + a["num_radar_pts"]]
    without_racks = [a for a in nusc.sample_annotation if a["category_name"] != CATEGORIES["rack"]]
    for sample in nusc.sample:
        kept = {a["token"] for a in without_racks}
        sample["anns"] = [token for token in sample["anns"] if token in kept]
    outside = read_truth(nusc, tokens_of(nusc), NUSCENES_CLASSES)
    assert 0 < len(truth.boxes) < len(outside.boxes) < len(seen) < len(boxes)


def test_rules_follow_the_categories():
    """A rule of nuScenes holds for a class whose categories all have it."""
    categories = NUSCENES_CLASSES.categories
    bikes, barriers = ["vehicle.bicycle", "vehicle.motorcycle"], categories["barrier"]
    cones = categories["traffic_cone"]
    task = nuscenes_task(
        ClassSet(
            names=["pylon", "rail", "bike", "vehicle"],
            categories={
                "pylon": cones,
                "rail": barriers,
                "bike": bikes,
                "vehicle": ["vehicle.car"],
            },
            attributes={"bike": ["a", "b"], "vehicle": ["a", "b"]},
        )
    )
    assert task.half_turn == ("rail",)
    assert task.undefined == {
        "pylon": ("orient_err", "vel_err", "attr_err"),
        "rail": ("vel_err", "attr_err"),
        "bike": (),
        "vehicle": (),
    }
    mixed = nuscenes_task(ClassSet(names=["static"], categories={"static": [*cones, *barriers]}))
    assert mixed.undefined == {"static": ("vel_err", "attr_err")} and mixed.half_turn == ()


def test_a_class_of_two_wheelers_is_not_evaluated_in_racks(folder):
    rng = np.random.default_rng(0)
    kinds = {"coarse": True, "classes": ["bicycle", "motorcycle", "rack"]}
    nusc = draw_tables(rng, folder, samples=5, objects=60, **kinds)
    own = ClassSet(
        names=["bike", "car"],
        categories={"bike": ["vehicle.bicycle", "vehicle.motorcycle"], "car": ["vehicle.car"]},
        ranges={"bike": 40.0},
    )
    boxes = read_truth(nusc, tokens_of(nusc), own).boxes
    expected = read_truth(nusc, tokens_of(nusc), NUSCENES_CLASSES).boxes
    np.testing.assert_array_equal(boxes.center, expected.center)
    assert boxes.class_id.tolist() == [int(TASK.names[i] == "car") for i in expected.class_id]


def test_what_the_devkit_can_evaluate():
    ten = NUSCENES_CLASSES.to_dict()
    reordered = {**ten, "names": ten["names"][::-1]}
    assert difference_from_nuscenes(ClassSet(**reordered)) == ""
    assert "the classes are x" in difference_from_nuscenes(ClassSet(names=["x"]))
    for change in (
        {"ranges": {**ten["ranges"], "car": 60.0}},
        {"categories": {**ten["categories"], "car": ["vehicle.car", "vehicle.emergency.police"]}},
        {"attributes": {**ten["attributes"], "car": ["", ""]}},
    ):
        (name,) = change
        assert difference_from_nuscenes(ClassSet(**{**ten, **change})).startswith(f"the {name} of")


def test_two_attributes_are_an_error(folder):
    rng = np.random.default_rng(0)
    nusc = draw_tables(rng, folder, samples=1, objects=1, coarse=True, classes=["car"])
    nusc.sample_annotation[0]["attribute_tokens"] = ["one", "other"]
    with pytest.raises(ValueError, match="annotation sample0_0 has 2 attributes"):
        read_truth(nusc, ["sample0"], NUSCENES_CLASSES)


def test_differences_of_summaries():
    one = {"mean_ap": 0.5, "label_aps": {"car": {0.5: math.nan}}, "eval_time": 1.0, "cfg": {"x": 1}}
    other = {**one, "mean_ap": 0.5 + 1e-7, "eval_time": 2.0, "cfg": {"x": 2}}
    assert summary_differences(one, other, 1e-6) == {}
    infinite = {"tp_errors": {"vel_err": math.inf}}
    assert summary_differences(infinite, infinite, 1e-6) == {}
    assert summary_differences(one, other, 1e-8) == {"mean_ap": (0.5, 0.5 + 1e-7)}
    ((name, values),) = summary_differences(one, {"label_aps": {"car": {0.5: 0.25}}}, 1e-6).items()
    assert name == "label_aps/car/0.5" and math.isnan(values[0]) and values[1] == 0.25
