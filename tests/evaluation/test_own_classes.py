"""Metrics of any classes, cameras and samples: from an index, and from nuScenes' tables."""

import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from truth_samples import feed, truth_of

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations
from fsdbev.data.nuscenes.index_builder import build_index, load_nuscenes
from fsdbev.evaluation import DetectionEvaluator, NuScenesEvaluator
from fsdbev.evaluation.nuscenes_truth import TableTruth
from fsdbev.evaluation.truth import DetectionTask, IndexTruth
from fsdbev.structures import NUSCENES_CLASSES, ClassSet

VERSION = "v1.0-synth"
OF_NUSCENES = NUSCENES_CLASSES.categories
VEHICLES = ("car", "truck", "construction_vehicle", "bus", "trailer")
THREE = ClassSet(
    names=["vehicle", "two_wheeler", "person"],
    categories={
        "vehicle": [category for name in VEHICLES for category in OF_NUSCENES[name]],
        "two_wheeler": [*OF_NUSCENES["bicycle"], *OF_NUSCENES["motorcycle"]],
        "person": OF_NUSCENES["pedestrian"],
    },
    attributes={
        "vehicle": ["vehicle.parked", "vehicle.moving"],
        "person": ["pedestrian.standing", "pedestrian.moving"],
    },
    static_attributes=NUSCENES_CLASSES.static_attributes,
    ranges={"vehicle": 60.0, "two_wheeler": 35.0},
)


def open_index(path, cameras=None):
    return FrameDataset(path.stem, FrameIndex(path), path.parent, cameras=cameras)


@pytest.fixture(scope="module")
def prepared(synthetic_root, tmp_path_factory):
    """Index of the synthetic validation split with three classes."""
    path = tmp_path_factory.mktemp("three") / "synth_val.arrow"
    build_index(load_nuscenes(synthetic_root, VERSION), "synth_val", path, classes=THREE)
    return path


@pytest.fixture
def three(prepared):
    return open_index(prepared)


@pytest.fixture
def tables(synthetic_root, tmp_path):
    """Evaluator on nuScenes' tables: tables(dataset, **options)."""

    def make(dataset, **options):
        options = {"split": "synth_val", **options}
        where = {"dataroot": str(synthetic_root), "version": VERSION, "output_dir": str(tmp_path)}
        return NuScenesEvaluator(dataset=dataset, **where, **options)

    return make


def perfect(evaluator):
    """Returns the metrics of the ground truth of all samples."""
    dataset = evaluator.dataset
    feed(evaluator, [truth_of(dataset.index, row) for row in range(len(dataset))])
    return evaluator.evaluate()[evaluator.task_name]


@pytest.mark.parametrize("classes", [THREE, NUSCENES_CLASSES], ids=["three", "nuScenes"])
def test_truth_of_index_and_tables_agree(prepared, synthetic_root, classes):
    path = prepared if classes is THREE else synthetic_root / f"fsdbev/{VERSION}/synth_val.arrow"
    options = {"classes": classes, "dataset": open_index(path), "unseen_objects": "ignore"}
    index = IndexTruth(**options)
    where = {"dataroot": str(synthetic_root), "version": VERSION, "split": "synth_val"}
    tables = TableTruth(**options, **where)
    assert list(index.scenes.items()) == list(tables.scenes.items())
    assert index.task.names == tables.task.names
    one, other = index.truth, tables.truth
    np.testing.assert_array_equal(one.scope.ego, other.scope.ego)
    np.testing.assert_array_equal(one.scope.ranges, other.scope.ranges)
    one, other = one.boxes, other.boxes
    assert len(one) == len(other) > 20
    for name in ("sample", "class_id", "attribute", "score"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_allclose(one.center, other.center, atol=1e-5, rtol=0)
    np.testing.assert_allclose(one.size, other.size, atol=1e-6, rtol=0)
    velocity = np.nan_to_num(other.velocity)  # the index has 0 where it is unknown
    np.testing.assert_allclose(one.velocity, velocity, atol=2e-3, rtol=0)
    yaw = [2 * np.arctan2(boxes.rotation[:, 3], boxes.rotation[:, 0]) for boxes in (one, other)]
    np.testing.assert_allclose(np.cos(yaw[0] - yaw[1]), 1, atol=1e-6)


def test_three_classes_by_both_evaluators(three, tables, tmp_path, caplog):
    own = DetectionEvaluator(dataset=three, output_dir=str(tmp_path / "own"))
    metrics = perfect(own)
    assert metrics["mAP"] == pytest.approx(1.0) and metrics["mATE"] < 1e-3
    assert {name for name in metrics if name.startswith("AP_")} == {f"AP_{n}" for n in THREE.names}
    results = json.loads((tmp_path / "own/results.json").read_text())["results"]
    assert {box["detection_name"] for box in sum(results.values(), [])} == set(THREE.names)
    summary = json.loads((tmp_path / "own/metrics_summary.json").read_text())
    assert summary["cfg"]["class_range"] == THREE.ranges
    # Two-wheelers have no attributes.
    errors = {name: values["attr_err"] for name, values in summary["label_tp_errors"].items()}
    assert math.isnan(errors["two_wheeler"]) and not math.isnan(errors["vehicle"])
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        assert perfect(tables(three, official=True)) == pytest.approx(metrics, abs=2e-3)
    assert "does not compute the metrics: the classes are vehicle, two_wheeler" in caplog.text
    assert "computed by the devkit" not in caplog.text


def test_an_error_that_no_class_has_does_not_count(prepared, three, tmp_path):
    plain = ClassSet(**{**THREE.to_dict(), "attributes": {}})
    metrics = perfect(DetectionEvaluator(dataset=three, classes=plain, output_dir=str(tmp_path)))
    assert math.isnan(metrics["mAAE"])
    assert metrics["NDS"] == pytest.approx(1.0, abs=1e-3)


def test_attributes_that_the_classes_lack_are_said(three, tables, caplog):
    renamed = {**THREE.to_dict(), "attributes": {"vehicle": ["idle", "driving"]}}
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        metrics = perfect(tables(three, classes=ClassSet(**renamed)))
    assert metrics["mAAE"] == 1.0
    assert "the classes lack the attributes vehicle.moving of the data" in caplog.text


def test_other_classes_than_the_data_sets_are_refused(three, tables, tmp_path):
    reordered = ClassSet(**{**THREE.to_dict(), "names": ["person", "two_wheeler", "vehicle"]})
    message = "'synth_val' has classes .*'vehicle', 'two_wheeler'.*but the evaluator has .*'person'"
    with pytest.raises(ValueError, match=message):
        DetectionEvaluator(dataset=three, classes=reordered, output_dir=str(tmp_path))
    with pytest.raises(ValueError, match="but the evaluator has"):
        tables(three, classes=NUSCENES_CLASSES)


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ("synth_val", "the index has 2 of the 3 samples of split 'synth_val'"),
        ("few", "there is no split 'few' (Custom split few requested, but not found"),
    ],
)
def test_part_of_a_split(synthetic_root, tables, tmp_path, caplog, split, reason):
    """The samples of the index are evaluated, also of a split that only the index knows."""
    whole = FrameIndex(synthetic_root / f"fsdbev/{VERSION}/synth_val.arrow")
    frames = [whole[0], replace(whole[1], next=-1)]
    rows = [(frame, whole.annotations(row)) for row, frame in enumerate(frames)]
    write_index(tmp_path / f"{split}.arrow", rows, NUSCENES_CLASSES)
    evaluator = tables(open_index(tmp_path / f"{split}.arrow"), split=split, official=True)
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        assert perfect(evaluator)["mAP"] > 0.6  # some classes are in the third sample only
    scored = evaluator.scored_detections()
    assert scored.sample_tokens == [whole[0].sample_token, whole[1].sample_token]
    assert reason in scored.unofficial and f"does not compute the metrics: {reason}" in caplog.text


def test_samples_that_the_tables_lack(three, tables, tmp_path):
    rows = [(replace(three.index[0], sample_token="other", next=-1), three.index.annotations(0))]
    write_index(tmp_path / "other.arrow", rows, THREE)
    with pytest.raises(ValueError, match="lacks 1 samples of .*other.arrow.*prepare the split"):
        perfect(tables(open_index(tmp_path / "other.arrow")))


def test_objects_that_no_chosen_camera_sees(prepared, tables, tmp_path, caplog):
    front = open_index(prepared, cameras=["CAM_FRONT"])
    counts = {}
    for unseen in ("ignore", "count"):
        own = DetectionEvaluator(
            dataset=front, output_dir=str(tmp_path / "own"), unseen_objects=unseen
        )
        for evaluator in (own, tables(front, unseen_objects=unseen)):
            caplog.clear()
            with caplog.at_level(logging.INFO, logger="fsdbev"):
                perfect(evaluator)
            scored = evaluator.scored_detections()
            found = int(scored.analysis.num_truth.sum())
            assert counts.setdefault(unseen, found) == found
            assert scored.facts["cameras"] == "CAM_FRONT"
            assert "objects have no 2D box in CAM_FRONT" in caplog.text
            assert ("are left out" in caplog.text) == (unseen == "ignore")
    seen = [front.annotations(row) for row in range(len(front))]
    assert 0 < counts["ignore"] < counts["count"]
    assert counts["ignore"] <= sum(objects.has_points.sum() for objects in seen)
    note = f"{counts['count'] - counts['ignore']} of {counts['count']} objects have no 2D box"
    assert note in caplog.text


def test_a_recording_without_lidar_and_without_annotations(three, tmp_path, caplog):
    """Distances are from the pose of the reference camera."""
    frames = [replace(three.index[row], lidar=None) for row in range(3)]
    write_index(tmp_path / "a.arrow", [(f, three.index.annotations(0)) for f in frames], THREE)
    source = IndexTruth(
        classes=THREE, dataset=open_index(tmp_path / "a.arrow"), unseen_objects="ignore"
    )
    expected = [frame.key_ego2global[:2, 3] for frame in frames]
    np.testing.assert_array_equal(source.truth.scope.ego, expected)
    write_index(tmp_path / "b.arrow", [(f, Annotations.empty()) for f in frames], THREE)
    evaluator = DetectionEvaluator(
        dataset=open_index(tmp_path / "b.arrow"), output_dir=str(tmp_path)
    )
    feed(evaluator, [truth_of(three.index, row) for row in range(3)])
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        assert evaluator.evaluate() == {}
    assert "data set 'b' has no annotations" in caplog.text and evaluator.submission_path.is_file()


def test_key_pose_and_bev_augmentation(three, tmp_path):
    """A sample with part of the cameras states its key pose; predictions are in the BEV frame."""
    turn = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    evaluator = DetectionEvaluator(dataset=three, output_dir=str(tmp_path))
    for row in range(len(three)):
        sample, output = truth_of(three.index, row)
        pose = three.index[row].key_ego2global
        sample |= {"bev_aug": turn, "key_ego2global": torch.tensor(pose)}
        sample["ego2global"] = sample["ego2global"][:, :1] + 1000
        instances = output["instances"]
        instances.pred_boxes_3d = instances.pred_boxes_3d.transformed(turn)
        evaluator.process([sample], [output])
    assert evaluator.evaluate()["detection"]["mAP"] == pytest.approx(1.0)


def test_task_of_any_classes():
    task = DetectionTask.of(THREE)
    assert task.names == THREE.names and task.ranges.tolist() == [60, 35, 50]
    assert task.ids_without("attr_err") == [1] and task.ids_without("vel_err") == []
    assert task.attributes[0] == "" and "pedestrian.sitting_lying_down" in task.attributes
