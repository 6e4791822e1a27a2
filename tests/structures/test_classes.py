"""Classes as data. tests/bad_inputs has the values that are refused."""

import json

import pytest
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.constants import DETECTION_NAMES
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.utils.color_map import get_colormap

from fsdbev.structures import NUSCENES_CLASSES, ClassGroup, ClassSet

OWN = ClassSet(
    names=["vehicle", "cyclist", "person"],
    groups=["vehicle", {"names": ["person", "cyclist"], "dim_scale": [4.5, 1], "iou_threshold": 0}],
    categories={"vehicle": ["vehicle.car", "vehicle.truck"], "person": ["pedestrian"]},
    attributes={"vehicle": ["parked", "moving"]},
    ranges={"person": 40},
)


def test_nuscenes_classes_are_those_of_the_devkit():
    assert set(NUSCENES_CLASSES.names) == set(DETECTION_NAMES)
    for category in get_colormap():  # every category of nuScenes
        class_id = NUSCENES_CLASSES.id_of_category(category)
        name = None if class_id < 0 else NUSCENES_CLASSES.names[class_id]
        assert name == category_to_detection_name(category), category
    assert NUSCENES_CLASSES.ranges == config_factory("detection_cvpr_2019").class_range


def test_default_groups_categories_attributes_and_ranges():
    classes = ClassSet(names=["a", "b"])
    assert classes.groups == (ClassGroup(("a",)), ClassGroup(("b",)))
    assert classes.categories == {"a": ("a",), "b": ("b",)}
    assert classes.attributes == {"a": ("", ""), "b": ("", "")} and not classes.static_attributes
    assert classes.ranges == {"a": 50.0, "b": 50.0}


def test_groups_are_names_mappings_or_objects():
    """Class ids of a group are in the order of its names."""
    assert OWN.group_ids == [[0], [2, 1]]
    assert OWN.groups[0] == ClassGroup("vehicle") == ClassGroup(("vehicle",), dim_scale=(1,))
    assert OWN.groups[1] == ClassGroup(("person", "cyclist"), 0, (4.5, 1.0))
    alike = [["vehicle"], OWN.groups[1]]
    assert ClassSet(**{**OWN.to_dict(), "groups": alike}) == OWN


def test_categories_attributes_and_ranges():
    found = [OWN.id_of_category(name) for name in ("vehicle.truck", "pedestrian", "cyclist", "bus")]
    assert found == [0, 2, 1, -1]
    assert OWN.id_of_category("person") == -1  # only the categories that are named
    assert OWN.static_attributes == ("parked",)
    assert OWN.ranges == {"vehicle": 50.0, "cyclist": 50.0, "person": 40.0}


@pytest.mark.parametrize("classes", [OWN, NUSCENES_CLASSES], ids=repr)
def test_json_contains_all_arguments(classes):
    content = json.loads(json.dumps(classes.to_dict()))
    read = ClassSet.from_dict(content, "x.json")
    assert read == classes and hash(read) == hash(classes) and len(read) == len(classes.names)
    assert read.to_dict() == content
    for key, value in {"ranges": {"person": 30}, "static_attributes": ["sitting"]}.items():
        assert OWN != ClassSet(**{**OWN.to_dict(), key: value})
    with pytest.raises(ValueError, match=r"x.json: its classes can't be read \(names must be"):
        ClassSet.from_dict({**content, "names": 3}, "x.json")


def test_differences_list_both():
    """Labels depend on names, categories and static attributes."""
    where = {"own": "model.classes", "others": "x.arrow", "remedy": "do this"}

    def changed(**arguments):
        return ClassSet(**{**OWN.to_dict(), **arguments})

    OWN.check_labels(changed(ranges={}, groups=None), **where)
    reordered = changed(names=["person", "cyclist", "vehicle"])
    message = r"x.arrow has classes \['person', .*model.classes has \['vehicle', .*; do this$"
    with pytest.raises(ValueError, match=message):
        OWN.check_labels(reordered, **where)
    with pytest.raises(ValueError, match="x.arrow has categories .*has .*'vehicle.car'"):
        OWN.check_labels(changed(categories={}), **where)
    with pytest.raises(ValueError, match=r"has static_attributes \['sitting'\], .*\['parked'\]"):
        OWN.check_labels(changed(static_attributes=["sitting"]), **where)
