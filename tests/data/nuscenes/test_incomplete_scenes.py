"""Scenes with missing files: an error, or left out with --skip-incomplete."""

import os
import shutil

import pytest
from data_root import VERSION, DataRoot

from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.nuscenes import index_builder, splits
from fsdbev.data.nuscenes.sensor_files import SKIPPED_FIELD, missing_files, skipped_scenes

LEAVE_OUT = "to leave out scenes with missing files, use --skip-incomplete or choose scenes"


@pytest.fixture
def root(synthetic_root, tmp_path):
    return DataRoot.copy_of(synthetic_root, tmp_path / "data")


@pytest.fixture
def both(synthetic_root):
    """Options for a split of two scenes, the first of which has SPLIT."""
    scenes = [*splits.split_scenes(synthetic_root, VERSION).values()]
    return {"scenes": [name for names in scenes for name in names], "split_name": "both"}


def path_of(root, channel):
    """Returns the path of a file of SPLIT's first sample, relative to the data root."""
    record = root.sensor_data(root.first_sample(), channel)
    return record["filename"]


def lidarseg_path(root):
    record = root.sensor_data(root.first_sample(), "LIDAR_TOP")
    labels = root.table("lidarseg")
    return next(r["filename"] for r in labels if r["sample_data_token"] == record["token"])


@pytest.mark.parametrize("kind", ["CAM_BACK", "LIDAR_TOP", "lidarseg"])
def test_missing_file_is_an_error_or_its_scene_left_out(root, both, kind):
    """Missing images were not noticed before training, missing lidarseg labels of any scene were
    an error, and none of the messages had a scene."""
    path = lidarseg_path(root) if kind == "lidarseg" else path_of(root, kind)
    (root.path / path).unlink()
    with pytest.raises(FileNotFoundError) as raised:
        root.prepare(**both)
    message = str(raised.value)
    counts = "missing files of both: 1, incomplete scenes: 1"
    assert message.startswith(f"{root.path / path}: no such file ({counts}); unpack the archive")
    assert f"the file belongs to {both['scenes'][0]}: {LEAVE_OUT}" in message
    assert ("remove lidarseg.json to label points inside boxes" in message) == (kind == "lidarseg")
    assert not list(root.output.glob("*.arrow"))

    prepared = root.prepare(**both, skip_incomplete=True)
    assert prepared.index.scene_names == both["scenes"][1:] and prepared.statistics.samples == 3
    assert skipped_scenes(prepared.index) == {both["scenes"][0]: path}
    # The other scene alone needs no option.
    assert root.prepare(scenes=both["scenes"][1:], split_name="other").statistics.samples == 3


def test_lidarseg_without_its_folder(root):
    shutil.rmtree(root.path / "lidarseg")
    with pytest.raises(FileNotFoundError, match="missing files of synth_train: 3, incomplete"):
        root.prepare()
    (root.tables / "lidarseg.json").unlink()
    assert root.prepare().statistics.samples == 3


def test_split_without_a_complete_scene(root):
    (root.path / path_of(root, "CAM_BACK")).unlink()
    with pytest.raises(FileNotFoundError, match="missing files of synth_train: 1, incomplete"):
        root.prepare(skip_incomplete=True)


def test_option_changes_nothing_if_all_files_exist(root, both):
    root.prepare(**both)
    content = (root.output / "both.arrow").read_bytes()
    (root.output / "both.arrow").unlink()
    root.prepare(**both, skip_incomplete=True)
    assert (root.output / "both.arrow").read_bytes() == content


def test_next_runs(root, both, monkeypatch):
    """An index without incomplete scenes is current while the same files are missing."""
    first, second = path_of(root, "CAM_BACK"), path_of(root, "CAM_FRONT")
    content = (root.path / first).read_bytes()
    (root.path / first).unlink()
    (root.path / second).unlink()
    root.prepare(**both, skip_incomplete=True)
    index = FrameIndex(root.output / "both.arrow")
    assert len(index) == 3
    with monkeypatch.context() as patch:
        patch.setattr(index_builder, "load_nuscenes", lambda *_: pytest.fail("tables loaded"))
        root.prepare(**both, skip_incomplete=True)
        root.prepare(splits=["both"], skip_incomplete=True)
    assert root.check(**both) == []
    with pytest.raises(FileNotFoundError, match="missing files of both: 2"):
        root.prepare(**both)

    (missing,) = skipped_scenes(index).values()
    (root.path / missing).write_bytes(content)
    ((kind, text),) = root.check(**both)
    assert kind == "index" and f"{both['scenes'][0]}, but the file that was missing exists" in text
    other = root.prepare(**both, skip_incomplete=True).index
    assert [*skipped_scenes(other).values()] == [{first: second, second: first}[missing]]

    (root.path / first).write_bytes(content)
    (root.path / second).write_bytes(content)
    assert len(root.prepare(**both, skip_incomplete=True).index) == 6
    assert root.check(**both) == []


def test_file_that_vanishes_after_the_preparation(root, both):
    root.prepare(**both)
    (root.path / path_of(root, "CAM_BACK")).unlink()
    assert len(root.prepare(**both, skip_incomplete=True).index) == 3


def test_sweep_that_vanishes_before_its_labels_are_made(root):
    root.prepare()
    shutil.rmtree(root.output / "point_labels")
    (root.path / path_of(root, "LIDAR_TOP")).unlink()
    with pytest.raises(FileNotFoundError, match=f"LIDAR_TOP.*no such file.*{LEAVE_OUT}"):
        root.prepare()


def test_images_suffice_without_annotations(root):
    root.write_table("sample_annotation", [])
    root.write_table("instance", [])
    shutil.rmtree(root.path / "samples" / "LIDAR_TOP")
    shutil.rmtree(root.path / "lidarseg")
    assert root.prepare().statistics is None


def test_malformed_header(root, both):
    index = root.prepare(**both).index
    rows = [(index[row], index.annotations(row)) for row in range(len(index))]
    info = {**index.info, SKIPPED_FIELD: "[1]"}
    write_index(root.output / "both.arrow", rows, index.classes, info)
    with pytest.raises(ValueError, match=r"skipped_scenes must map scenes to files, got '\[1\]'"):
        root.prepare(**both, skip_incomplete=True)
    assert "skipped_scenes must map" in dict(root.check(**both))["index"]


def test_folders_are_listed_once(root, monkeypatch):
    listed = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listdir(path))
    files = [(f"scene {i}", f"samples/CAM_BACK/{i}.jpg") for i in range(100)]
    assert len(missing_files([*files, ("scene 7", "nowhere/x")], root.path)["scene 7"]) == 2
    assert listed == [root.path / "samples/CAM_BACK"]


def test_command_line(root, both, run_tool, capsys):
    def run(*arguments):
        paths = ("--dataroot", root.path, "--version", VERSION, "--output", root.output)
        options = ("--scenes", *both["scenes"], "--split-name", "both", "--workers", 0)
        status = run_tool("prepare_nuscenes", *paths, *options, *arguments)
        return status, capsys.readouterr()

    path = path_of(root, "CAM_BACK")
    (root.path / path).unlink()
    status, printed = run()
    assert status == 1 and LEAVE_OUT in printed.err
    for _ in range(2):
        status, printed = run("--skip-incomplete")
        assert status == 0 and "both: 3 samples" in printed.out
        left_out = f"incomplete scenes left out: 1\n  {both['scenes'][0]}: {path} is missing"
        assert left_out in printed.out
    status, printed = run("--check")
    assert status == 0
    assert f"incomplete scenes left out: {both['scenes'][0]}" in printed.out


def test_label_files_of_other_splits_may_be_missing(root):
    """The devkit refuses this."""
    scene = root.first_sample()["scene_token"]
    samples = {s["token"] for s in root.table("sample") if s["scene_token"] == scene}
    tokens = {r["token"] for r in root.table("sample_data") if r["sample_token"] in samples}
    for record in root.table("lidarseg"):
        if record["sample_data_token"] not in tokens:
            (root.path / record["filename"]).unlink()
    assert (root.path / lidarseg_path(root)).exists()
    assert root.prepare().statistics.samples == 3
