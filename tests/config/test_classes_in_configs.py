"""model.classes in a .py config, in YAML and on the command line, and configs without it."""

from pathlib import Path

import pytest

from fsdbev.config import config_text, load_config, read_config
from fsdbev.config.loading import complete_config
from fsdbev.d2.config import instantiate
from fsdbev.structures import ClassGroup, ClassSet

MODEL = Path(__file__).parents[2] / "configs/common/models/fsdbev_r50.py"
START = """
from fsdbev.d2.config import LazyCall as L
from fsdbev.structures import ClassGroup, ClassSet
model = dict(
    classes=L(ClassSet)(
        names=["vehicle", "cyclist", "person"],
        categories=dict(person=["pedestrian.adult", "pedestrian.child"]),
        ranges=dict(vehicle=60.0),
        groups={groups},
    ),
    same="${{model.classes}}",
)
"""
#: Three ways to write the same groups.
GROUPS = {
    "names": '[["vehicle"], ["cyclist", "person"]]',
    "mappings": '[dict(names=["vehicle"]), dict(names=["cyclist", "person"], iou_threshold=0.2)]',
    "calls": '[L(ClassGroup)(names=["vehicle"]), L(ClassGroup)(names=["cyclist", "person"])]',
}
CLASSES = ClassSet(
    names=["vehicle", "cyclist", "person"],
    categories={"person": ["pedestrian.adult", "pedestrian.child"]},
    ranges={"vehicle": 60.0},
    groups=[ClassGroup(("vehicle",)), ClassGroup(("cyclist", "person"))],
)


@pytest.fixture
def write(tmp_path):
    """Writes a config with groups of GROUPS and returns its path."""

    def write(kind):
        path = tmp_path / "config.py"
        path.write_text(START.format(groups=GROUPS[kind]))
        return str(path)

    return write


@pytest.mark.parametrize("kind", GROUPS)
def test_groups_of_a_config_and_of_its_saved_copy(write, tmp_path, kind):
    cfg = load_config(write(kind))
    saved = tmp_path / "config.yaml"
    saved.write_text(config_text(cfg))
    for each in (cfg, load_config(str(saved))):
        assert instantiate(each.model.classes) == instantiate(each.model.same) == CLASSES


def test_classes_of_a_yaml_config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "model:\n  classes:\n    _target_: fsdbev.structures.ClassSet\n    names: [a, b, c]\n"
        "    groups:\n    - [a]\n    - names: [b]\n      center_distance: 1.5\n"
        "    - _target_: fsdbev.structures.ClassGroup\n      names: [c]\n"
    )
    groups = [["a"], {"names": ["b"], "center_distance": 1.5}, ["c"]]
    assert instantiate(load_config(str(path)).model.classes) == ClassSet(
        names="a b c".split(), groups=groups
    )


def test_overrides_of_the_values_of_a_group(write):
    overrides = ["model.classes.groups.0.iou_threshold=0.3", "model.classes.ranges.vehicle=30"]
    classes = instantiate(load_config(str(MODEL), overrides[:1]).model.classes)
    assert [group.iou_threshold for group in classes.groups] == [0.3, 0.2, 0.2, 0.2, 0.2, 0.5]
    assert instantiate(load_config(write("names"), overrides[1:]).model.same).ranges == {
        "vehicle": 30.0,
        "cyclist": 50.0,
        "person": 50.0,
    }


def test_overrides_with_other_names_and_groups(write):
    overrides = ["model.classes.names=[vehicle,person]", "model.classes.ranges=null"]
    groups = "model.classes.groups=[{names: [vehicle]}, {names: [person], iou_threshold: 0.4}]"
    classes = instantiate(load_config(write("mappings"), [*overrides, groups]).model.classes)
    assert classes.names == ("vehicle", "person")
    assert [group.iou_threshold for group in classes.groups] == [0.2, 0.4]
    wrong = {
        "model.classes.groups=[{nams: [vehicle]}]": "keys names, iou_threshold, got 'nams'",
        "model.classes.groups=[{names: 3}]": "groups.names takes list",
        "model.classes.groups=[3]": "takes null or {key: value}, got 3",
    }
    for override, message in wrong.items():
        with pytest.raises(ValueError, match=message.replace("{", r"\{")):
            load_config(write("mappings"), [override])
    with pytest.raises(ValueError, match="every class must be in exactly one group"):
        instantiate(load_config(write("names"), overrides).model.classes)


def test_a_config_from_before_has_no_classes_and_names_the_remedy():
    cfg = read_config(str(MODEL))
    del cfg.model["classes"]
    with pytest.raises(ValueError, match=r"model\.classes is missing.*--print-config"):
        complete_config(cfg)


def test_a_new_part_refers_to_the_classes_of_the_model():
    cfg = read_config(str(MODEL))
    call = cfg.model.msfe._target_
    cfg.model.msfe = {"_target_": call, "name": "ForegroundBranch", "in_channels": 8}
    overrides = ["model.msfe.name=MSFE", "model.classes.groups.0.iou_threshold=0.3"]
    classes = instantiate(complete_config(cfg, overrides).model.msfe.classes)
    assert classes.groups[0].iou_threshold == 0.3
