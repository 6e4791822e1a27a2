"""Splits: nuScenes' own, those of splits.json, and scenes that the user chooses."""

import json

import pytest
from data_root import SPLIT, VERSION, DataRoot

from fsdbev.data.nuscenes import index_builder, splits
from fsdbev.data.nuscenes.index_builder import build_index
from fsdbev.data.nuscenes.tables import TableError


@pytest.fixture
def root(synthetic_root, tmp_path):
    return DataRoot.copy_of(synthetic_root, tmp_path / "data")


@pytest.fixture
def scenes(synthetic_root):
    """Names of the two scenes: of synth_train and of synth_val."""
    return [
        name for names in splits.split_scenes(synthetic_root, VERSION).values() for name in names
    ]


@pytest.fixture
def no_tables(monkeypatch):
    """Makes the loading of tables an error: all indexes must be current."""

    def forbid():
        monkeypatch.setattr(index_builder, "load_nuscenes", lambda *_: pytest.fail("tables loaded"))

    return forbid


def write_splits(root, **own):
    known = json.loads((root.tables / "splits.json").read_text())
    root.write(f"{VERSION}/splits.json", json.dumps({**known, **own}).encode())


def test_splits_of_a_version(synthetic_root, tables):
    scenes = splits.split_scenes(synthetic_root, VERSION)
    assert list(scenes) == ["synth_train", "synth_val"]
    assert all(len(names) == 1 for names in scenes.values())
    with pytest.raises(ValueError, match="no split 'tarin'.*--scenes.*splits.json"):
        build_index(tables, "tarin", "x.arrow")
    with pytest.raises(ValueError, match="no scene of split 'val'"):
        build_index(tables, "val", "x.arrow")


@pytest.mark.parametrize("name", ["val", "mini_train", "test"])
def test_official_name_in_splits_json(root, scenes, name):
    """It lost to the official split without a word."""
    write_splits(root, **{name: scenes})
    for chosen in ([SPLIT], [name]):
        with pytest.raises(TableError, match=f"splits.json: '{name}' is an official split.*name"):
            root.prepare(splits=chosen)
    assert not root.output.exists()


def test_chosen_scenes(root, scenes, no_tables):
    """Later runs, also those without --scenes, find the split in the output folder."""
    chosen = {"scenes": scenes[::-1], "split_name": "both"}
    prepared = root.prepare(**chosen)
    assert prepared.index.scene_names == sorted(scenes) and prepared.statistics.samples == 6
    assert prepared.index.path == str(root.output / "both.arrow")
    no_tables()
    assert len(root.prepare(**chosen).index) == len(root.prepare(splits=["both"]).index) == 6
    assert root.check(**chosen) == root.check(splits=["both"]) == []
    # Without any option, the official and custom splits are expected as well.
    kinds = [kind for kind, _ in root.check()]
    assert kinds == ["index", "index"]


def test_split_of_other_scenes(root, scenes):
    root.prepare(scenes=scenes[:1], split_name="some")
    texts = [text for _, text in root.check(scenes=scenes[1:], split_name="some")]
    assert "lacks samples: 3 of 3" in texts[0] and "has samples of other scenes: 3" in texts[1]
    assert root.prepare(scenes=scenes[1:], split_name="some").index.scene_names == scenes[1:]
    assert root.check(splits=["some"]) == []


def test_chosen_scenes_after_a_change_of_the_tables(root, scenes):
    root.prepare(scenes=scenes[1:], split_name="some")
    root.write(f"{VERSION}/log.json", (root.tables / "log.json").read_bytes() + b"\n")
    assert "made from other tables" in root.check(splits=["some"])[0][1]
    root.prepare(splits=["some"])
    assert root.check(splits=["some"]) == []


def test_names_of_chosen_scenes(root, scenes):
    def refuse(match, **options):
        with pytest.raises(ValueError, match=match):
            root.prepare(**{"scenes": scenes, "split_name": "own", **options})

    refuse("need each other, got .* and None", split_name=None)
    refuse(r"need each other, got \[\] and 'own'", scenes=[])
    refuse("need each other", scenes=None, splits=None)
    refuse("--split-name: 'val' is an official split", split_name="val")
    refuse("--split-name: split '../own' is used as a file name", split_name="../own")
    refuse("splits.json has other scenes for this name", split_name=SPLIT)
    refuse("can't be combined with --scenes", splits=[SPLIT])
    near = scenes[0][:-1] + "x"
    refuse(f"no scene '{near}'; the nearest name is '{scenes[0][:-1]}", scenes=[near])
    assert not root.output.exists()
    assert root.prepare(scenes=scenes[:1], split_name=SPLIT).index.scene_names == scenes[:1]


def test_scenes_on_the_command_line(root, scenes, run_tool, tmp_path, capsys):
    def run(*arguments):
        paths = ("--dataroot", root.path, "--version", VERSION, "--output", root.output)
        status = run_tool("prepare_nuscenes", *paths, "--workers", 0, *arguments)
        return status, capsys.readouterr()

    names = tmp_path / "scenes.txt"
    names.write_text(f"# the second one\n\n{scenes[1]}  # of synth_val\n")
    status, printed = run("--scenes", names, "--split-name", "one")
    assert status == 0 and printed.out.startswith("one: 3 samples")
    status, printed = run("--scenes", *scenes, "--split-name", "two")
    assert status == 0 and printed.out.startswith("two: 6 samples")
    status, printed = run("--check", "--splits", "one", "two")
    assert status == 0 and "two: 6 samples of 2 scenes" in printed.out
    assert run("--scenes", *scenes)[1].err.startswith("error: --scenes (at least one) and --split-")
    names.write_bytes(b"\xff\xfe")
    assert "scenes.txt: must be text in UTF-8" in run("--scenes", names, "--split-name", "x")[1].err
