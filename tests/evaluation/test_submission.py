"""Boxes as nuScenes submissions, and back; files. tests/bad_inputs has most of the errors."""

import json

import pytest
import torch
from pyquaternion import Quaternion

from fsdbev.evaluation import (
    attribute_of,
    boxes_from_submission,
    boxes_to_submission,
    check_boxes,
    read_submission,
    write_submission,
)
from fsdbev.evaluation.submission import META
from fsdbev.structures import NUSCENES_CLASSES, Boxes3D, ClassSet, make_transform

POSE = make_transform(
    torch.tensor(
        (
            Quaternion(axis=(0, 0, 1), degrees=110)
            * Quaternion(axis=(1, 0, 0), degrees=2)
            * Quaternion(axis=(0, 1, 0), degrees=-1)
        ).rotation_matrix
    ),
    torch.tensor([1700.0, 420.0, 3.0], dtype=torch.float64),
)


def some_boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.randn(count, 9, generator=generator)
    boxes[:, :2] *= 20
    boxes[:, 3:6] = boxes[:, 3:6].abs() + 0.5
    scores = torch.rand(count, generator=generator)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return Boxes3D(boxes), scores, labels


def submit(boxes, scores, labels, pose=POSE, classes=NUSCENES_CLASSES):
    return boxes_to_submission("abc", boxes, scores, labels, key_ego2global=pose, classes=classes)


def test_a_box_by_hand():
    """A quarter turn to the left and a shift: forward becomes global y."""
    pose = make_transform(
        torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), torch.tensor([100.0, 200.0, 5.0])
    )
    box = Boxes3D(torch.tensor([[10.0, 2.0, 0.5, 4.0, 2.0, 1.5, 0.0, 3.0, 0.0]]))
    (result,) = submit(box, torch.tensor([0.75]), torch.tensor([0]), pose)
    assert result["translation"] == pytest.approx([98.0, 210.0, 5.5])
    assert result["size"] == pytest.approx([2.0, 4.0, 1.5])
    assert result["rotation"] == pytest.approx([0.5**0.5, 0, 0, 0.5**0.5])
    assert result["velocity"] == pytest.approx([0.0, 3.0])
    assert result["detection_name"] == "car"
    assert result["detection_score"] == 0.75
    assert result["attribute_name"] == "vehicle.moving"
    assert result["sample_token"] == "abc"


def test_round_trip():
    boxes, scores, labels = some_boxes(40)
    order = torch.sort(scores, descending=True, stable=True).indices
    back, back_scores, back_labels = boxes_from_submission(
        json.loads(json.dumps(submit(boxes, scores, labels))),
        key_ego2global=POSE,
        classes=NUSCENES_CLASSES,
    )
    expected = boxes[order].with_yaw_in_range().tensor
    # The submission drops the velocity's vertical component, due to a tilt of 2 degrees.
    torch.testing.assert_close(back.tensor[:, :7], expected[:, :7], atol=1e-4, rtol=0)
    torch.testing.assert_close(back.tensor[:, 7:], expected[:, 7:], atol=1e-2, rtol=0)
    torch.testing.assert_close(back_scores, scores[order])
    assert torch.equal(back_labels, labels[order])


def test_round_trip_without_boxes():
    empty = submit(Boxes3D(torch.zeros(0, 9)), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert empty == []
    boxes, scores, labels = boxes_from_submission([], key_ego2global=POSE, classes=NUSCENES_CLASSES)
    assert boxes.tensor.shape == (0, 9)
    assert scores.shape == labels.shape == (0,)


def test_a_pose_that_is_not_rigid_is_refused():
    with pytest.raises(ValueError, match="sample abc: the pose's linear part must be a rotation"):
        submit(*some_boxes(5), pose=2 * POSE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotation": [1.0, 0.0, 0.0, 0.1]}, "unit quaternion"),
        ({"rotation": [1.0, 0.0, 0.0]}, "rotation must be 4 finite"),
        ({"attribute_name": ""}, "attribute_name of a car must be one of"),
        ({"detection_name": "barrier"}, r"attribute_name of a barrier must be one of \[''\]"),
    ],
)
def test_check_boxes(change, message):
    boxes, scores, _ = some_boxes(2)
    first, second = submit(boxes, scores, torch.zeros(2, dtype=torch.int64))
    check_boxes("abc", [first, second], NUSCENES_CLASSES)
    with pytest.raises(ValueError, match=f"sample abc, box 1: .*{message}"):
        check_boxes("abc", [first, second | change], NUSCENES_CLASSES)
    del first["velocity"]
    with pytest.raises(ValueError, match=r"it lacks \['velocity'\]"):
        check_boxes("abc", [first], NUSCENES_CLASSES)


def test_attributes_of_own_classes():
    """A class has its own attributes or none; nuScenes' classes have all that the devkit accepts,
    unless the set gives them others."""
    attributes = {"car": ["idle", "driving"], "bus": ["vehicle.stopped", "vehicle.moving"]}
    classes = ClassSet(names=["car", "bus", "kiosk"], attributes=attributes)
    (box,) = submit(*some_boxes(1)[:2], torch.zeros(1, dtype=torch.int64), classes=classes)
    assert box["attribute_name"] in ("idle", "driving")
    for name, accepted, refused in (
        ("car", ("idle", "driving", ""), "vehicle.moving"),
        ("bus", ("vehicle.parked", "vehicle.stopped"), ""),
        ("kiosk", ("",), "idle"),
    ):
        for attribute in accepted:
            change = {"detection_name": name, "attribute_name": attribute}
            check_boxes("abc", [box | change], classes)
        with pytest.raises(ValueError, match=f"attribute_name of a {name} must be one of"):
            change = {"detection_name": name, "attribute_name": refused}
            check_boxes("abc", [box | change], classes)
    with pytest.raises(ValueError, match=r"must be one of \['car', 'bus', 'kiosk'\], got 'truck'"):
        check_boxes("abc", [box | {"detection_name": "truck"}], classes)
    with pytest.raises(ValueError, match=r"unknown classes \['car'\]"):
        boxes_from_submission([box], key_ego2global=POSE, classes=ClassSet(names=["kiosk"]))


def test_attribute_rules():
    """docs/model.md, "Head, targets, decoding"."""
    names = NUSCENES_CLASSES.names
    moving = {name: attribute_of(NUSCENES_CLASSES, name, 0.21) for name in names}
    still = {name: attribute_of(NUSCENES_CLASSES, name, 0.2) for name in names}
    vehicles = ("car", "truck", "construction_vehicle", "trailer")
    for name in vehicles:
        assert (still[name], moving[name]) == ("vehicle.parked", "vehicle.moving")
    assert (still["bus"], moving["bus"]) == ("vehicle.stopped", "vehicle.moving")
    for name in ("motorcycle", "bicycle"):
        assert (still[name], moving[name]) == ("cycle.without_rider", "cycle.with_rider")
    assert still["pedestrian"] == "pedestrian.standing"
    assert moving["pedestrian"] == "pedestrian.moving"
    for name in ("barrier", "traffic_cone"):
        assert (still[name], moving[name]) == ("", "")
    with pytest.raises(ValueError, match="'tram'"):
        attribute_of(NUSCENES_CLASSES, "tram", 1.0)


def test_file_round_trip(tmp_path):
    boxes, scores, labels = some_boxes(3)
    results = {"abc": submit(boxes, scores, labels), "def": []}
    path = tmp_path / "deep" / "results.json"
    write_submission(results, path)
    assert read_submission(path, NUSCENES_CLASSES) == results
    meta = json.loads(path.read_text())["meta"]
    assert meta.pop("use_camera") is True
    assert set(meta.values()) == {False} and len(meta) == 4


def test_rotation_with_a_tilted_pose():
    boxes, scores, labels = some_boxes(20)
    tilted = Quaternion(matrix=POSE[:3, :3].numpy(), rtol=1e-6, atol=1e-6)
    by_score = scores.argsort(descending=True)
    for box, yaw in zip(submit(boxes, scores, labels), boxes.yaw[by_score].tolist(), strict=True):
        expected = tilted * Quaternion(axis=(0, 0, 1), radians=yaw)
        assert box["rotation"] == pytest.approx(expected.elements.tolist(), abs=1e-12)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_submissions_are_written_as_by_the_json_module(tmp_path, count):
    box = {"translation": [1e-7, 0.1 + 0.2, -3], "detection_name": "car", "attribute_name": ""}
    results = {f'token "{i}"': [box] * i for i in range(count)}
    write_submission(results, tmp_path / "results.json")
    expected = json.dumps({"meta": META, "results": results})
    assert (tmp_path / "results.json").read_text() == expected
