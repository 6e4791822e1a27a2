"""Preparation with other classes than nuScenes' ten."""

import json

import numpy as np
import pytest
from data_root import VERSION, DataRoot, contents

from fsdbev.data.labels.point_labels import read_point_labels
from fsdbev.data.nuscenes import index_builder
from fsdbev.structures import NUSCENES_CLASSES, ClassSet

OWN = {
    "names": ["two_wheeler", "vehicle", "pedestrian"],
    "categories": {
        "two_wheeler": ["vehicle.motorcycle", "vehicle.bicycle"],
        "vehicle": ["vehicle.car", "vehicle.truck", "vehicle.emergency.police"],
        "pedestrian": ["human.pedestrian.adult", "human.pedestrian.child"],
    },
    "static_attributes": ["vehicle.parked", "cycle.without_rider"],
}
CLASSES = ClassSet(**OWN)


@pytest.fixture
def root(synthetic_root, tmp_path):
    return DataRoot.copy_of(synthetic_root, tmp_path / "data")


def test_index_labels_and_statistics(root, tables):
    prepared = root.prepare(classes=CLASSES)
    index = prepared.index
    assert index.classes == CLASSES
    counts = np.zeros(3, int)
    for row in range(len(index)):
        annotations = index.annotations(row)
        records = [tables.get("sample_annotation", token) for token in annotations.tokens]
        expected = [CLASSES.id_of_category(record["category_name"]) for record in records]
        assert annotations.class_ids.tolist() == expected and min(expected) >= 0
        counts += np.bincount(expected, minlength=3)
        path = root.output / "point_labels" / f"{index[row].sample_token}.arrow"
        labels = read_point_labels(path, CLASSES, index.info["source"])
        found = {i for camera in labels.values() for i in camera.sweep.class_ids.tolist()}
        assert {-1, 1} <= found <= {-1, 0, 1, 2}
    assert prepared.statistics.objects.tolist() == counts.tolist() and counts.all()
    assert prepared.statistics.points.shape[1] == 4
    of_index = json.loads(index.info["lidarseg_classes"])
    for category in tables.category:
        assert of_index[category["index"]] == CLASSES.id_of_category(category["name"])
    assert root.check(classes=CLASSES, splits=["synth_train"]) == []


def test_one_class_set_per_output_folder(root):
    root.prepare(classes=CLASSES)
    made = contents(root.output)
    for options in ({}, {"splits": ["synth_val"]}):
        with pytest.raises(ValueError, match="synth_train.arrow has classes") as raised:
            root.prepare(**options)
        for part in ([*CLASSES.names], [*NUSCENES_CLASSES.names], "--classes", "--output"):
            assert str(part) in str(raised.value)
    (root.output / "synth_train.arrow").unlink()
    with pytest.raises(ValueError, match="point_labels.*has the classes.*vehicle.*car.*--output"):
        root.prepare()
    root.prepare(classes=CLASSES)
    assert contents(root.output) == made


def test_classes_with_other_groups_and_ranges(root, monkeypatch):
    """The index has a copy of them; labels do not depend on them."""
    root.prepare(classes=CLASSES)
    labels = {path: path.stat().st_mtime_ns for path in (root.output / "point_labels").iterdir()}
    other = ClassSet(**OWN, groups=[OWN["names"]], ranges={"vehicle": 70.0})
    findings = root.check(classes=other, splits=["synth_train"])
    assert [kind for kind, _ in findings] == ["index"] and "other groups" in findings[0][1]
    assert root.prepare(classes=other).index.classes == other
    assert {path: path.stat().st_mtime_ns for path in labels} == labels
    monkeypatch.setattr(index_builder, "load_nuscenes", lambda *_: pytest.fail("tables loaded"))
    root.prepare(classes=other)


def test_check_with_other_classes(root):
    root.prepare(classes=CLASSES)
    findings = root.check(splits=["synth_train"])
    assert [kind for kind, _ in findings] == ["classes"]
    assert "this check (--classes) has" in findings[0][1]
    assert root.check(splits=["synth_train"], classes=CLASSES) == []


def test_category_that_does_not_exist(root):
    typo = ClassSet(names=["car"], categories={"car": ["vehicle.Car"]})
    with pytest.raises(ValueError, match="'car' has the category 'vehicle.Car'.*'vehicle.car'"):
        root.prepare(classes=typo)
    with pytest.raises(ValueError, match="class 'van' has the category 'van'.*neither in .*nor"):
        root.prepare(classes=ClassSet(names=["van"]))


def test_own_category(root):
    """A category that nuScenes lacks is an error, unless it is in a class."""
    records = root.table("category")
    next(r for r in records if r["name"] == "vehicle.car").update(name="sedan")
    root.write_table("category", records)
    with pytest.raises(ValueError, match="neither nuScenes nor a class has the category sedan"):
        root.prepare()
    index = root.prepare(classes=ClassSet(names=["sedan"])).index
    assert index.num_annotations and set(index.annotations(0).class_ids.tolist()) == {0}


def test_background_that_belongs_to_a_class(root):
    """It was ignored without a word."""
    with pytest.raises(ValueError, match="'vehicle.car' is named as background, but.*class 'car'"):
        root.prepare(background=["vehicle.car"])
    root.prepare(background=["vehicle.bus.rigid"], classes=CLASSES)


PY_CONFIG = f"""
from fsdbev.d2.config import LazyCall as L
from fsdbev.structures import ClassSet

model = dict(classes=L(ClassSet)(**{OWN!r}))
"""
YAML_CONFIG = f"model: {{classes: {json.dumps({'_target_': 'fsdbev.structures.ClassSet', **OWN})}}}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own_classes.py", PY_CONFIG),
        ("own_classes.yaml", YAML_CONFIG),
        ("own_classes.yaml", json.dumps(OWN)),
        ("own_classes.yaml", json.dumps({"classes": OWN})),
    ],
)
def test_classes_on_the_command_line(root, tmp_path, run_tool, capsys, name, content):
    config = tmp_path / name
    config.write_text(content)
    arguments = ("--dataroot", root.path, "--version", VERSION, "--output", root.output)
    options = (*arguments, "--splits", "synth_train", "--classes", config, "--workers", 0)
    assert run_tool("prepare_nuscenes", *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]][:5] == ["class", *OWN["names"], "background"]
    assert run_tool("prepare_nuscenes", *options, "--check") == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {name: x}", "has no classes: expected a config with model.classes"),
        ("names: [car, car]", "classes must have different names"),
        ("{names: [car], colour: red}", "its classes can't be read"),
        ("model: {classes: {_target_: fsdbev.structures.ClassSet, names: []}}", "names must be"),
    ],
)
def test_files_without_classes(root, tmp_path, run_tool, capsys, content, message):
    config = tmp_path / "classes.yaml"
    config.write_text(content)
    options = ("--dataroot", root.path, "--version", VERSION, "--output", root.output)
    assert run_tool("prepare_nuscenes", *options, "--classes", config) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {config}: ") and message in error
