"""Preparation of nuScenes: complete, repeatable, resumable, from the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from data_root import VERSION, DataRoot, contents
from nuscenes.utils.splits import create_splits_scenes

from fsdbev.data.index.frame_index import INDEX_FORMAT, FrameIndex
from fsdbev.data.io.arrow_file import read_table, write_table
from fsdbev.data.labels.point_labels import LABEL_FORMAT, read_point_labels, write_point_labels
from fsdbev.data.nuscenes import index_builder as nuscenes, prepare, tables as nuscenes_tables
from fsdbev.data.nuscenes.check import check_nuscenes
from fsdbev.data.nuscenes.output_folder import prepare_command
from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.structures import NUSCENES_CLASSES, ClassSet


@pytest.fixture
def made(synthetic_root):
    """Files of the session's preparation."""
    return contents(synthetic_root / "fsdbev" / VERSION)


def test_a_second_run_loads_no_tables(synthetic_root, synthetic, made, monkeypatch):
    names = {str(path) for path in made}
    assert {"synth_train.arrow", "synth_val.arrow"} < names and len(names) == 2 + 6
    for row in range(3):
        assert f"point_labels/{synthetic.index[row].sample_token}.arrow" in names
    monkeypatch.setattr(nuscenes, "load_nuscenes", lambda *_: pytest.fail("tables loaded"))
    monkeypatch.setattr(
        prepare, "write_point_labels", lambda *_, **__: pytest.fail("labels written")
    )
    prepared = prepare_nuscenes(dataroot=synthetic_root, version=VERSION)
    assert {split: len(done.index) for split, done in prepared.items()} == {
        "synth_train": 3,
        "synth_val": 3,
    }
    assert contents(synthetic_root / "fsdbev" / VERSION) == made


def test_missing_broken_and_unfinished_files_are_written_again(synthetic_root, made, tmp_path):
    """The statistics include the samples whose labels are kept."""
    output = tmp_path / "x"
    shutil.copytree(synthetic_root / "fsdbev" / VERSION, output)
    gone, short, unfinished, without_numbers, *_ = sorted((output / "point_labels").iterdir())
    gone.unlink()
    short.write_bytes(short.read_bytes()[:1000])
    unfinished.rename(unfinished.with_name(f".{unfinished.name}.0123abcd.tmp"))
    index = FrameIndex(output / "synth_val.arrow")
    labels = read_point_labels(without_numbers, index.classes)
    write_point_labels(
        without_numbers,
        [*labels.values()],
        index[0],
        source=index.info["source"],
        classes=index.classes,
        statistics="",
    )
    (output / "synth_val.arrow").write_bytes(b"")
    (output / ".synth_val.arrow.77777777.tmp").write_bytes(b"half")
    again = prepare_nuscenes(dataroot=synthetic_root, version=VERSION, output=output)
    assert contents(output) == made
    for split, complete in prepare_nuscenes(dataroot=synthetic_root, version=VERSION).items():
        assert complete.statistics.samples == 3
        assert complete.statistics.points[:2].sum(axis=1).min() > 100
        assert again[split].statistics.to_json() == complete.statistics.to_json()


def test_files_of_earlier_versions_are_written_again(synthetic_root, made, tmp_path):
    """Label files of version 2 lack pseudo points behind the last depth bin."""
    output = tmp_path / "x"
    shutil.copytree(synthetic_root / "fsdbev" / VERSION, output)
    token = FrameIndex(output / "synth_train.arrow")[0].sample_token
    index, labels = output / "synth_val.arrow", output / "point_labels" / f"{token}.arrow"
    for path, file_format in ((index, INDEX_FORMAT), (labels, LABEL_FORMAT)):
        batch, header = read_table(path, file_format)
        path.unlink()
        old = replace(file_format, version=file_format.version - 1)
        extra = {key: header[key] for key in header.keys() - file_format.header().keys()}
        write_table(path, pa.Table.from_batches([batch]), old, extra)
    findings = check_nuscenes(dataroot=synthetic_root, version=VERSION, output=output).findings
    assert [finding.kind for finding in findings] == ["point labels", "index"]
    for finding in findings:
        assert "fsdbev.version is" in finding.text and "tools/prepare_nuscenes.py" in finding.text
    prepare_nuscenes(dataroot=synthetic_root, version=VERSION, output=output)
    assert contents(output) == made


def test_files_of_other_tables_are_written_again(synthetic_root, tmp_path, monkeypatch):
    output = tmp_path / "x"
    with monkeypatch.context() as patch:
        patch.setattr(nuscenes_tables, "tables_fingerprint", lambda *_: "another data set")
        prepare_nuscenes(
            dataroot=synthetic_root, version=VERSION, splits=["synth_val"], output=output
        )
    old = contents(output)
    prepare_nuscenes(dataroot=synthetic_root, version=VERSION, splits=["synth_val"], output=output)
    new = contents(output)
    assert old.keys() == new.keys() and all(old[path] != new[path] for path in old)


@pytest.fixture
def renamed(synthetic_root, tmp_path):
    """Writes a data set with version and scene names of nuScenes, without lidarseg."""

    def make(version, scene_names, **tables) -> Path:
        root = tmp_path / "renamed"
        shutil.copytree(synthetic_root / VERSION, root / version)
        for folder in ("samples", "maps"):
            (root / folder).symlink_to(synthetic_root / folder)
        for name in ("lidarseg", "splits"):
            (root / version / f"{name}.json").unlink()
        scenes = json.loads((root / version / "scene.json").read_text())
        tables["scene"] = [{**s, "name": n} for s, n in zip(scenes, scene_names, strict=True)]
        for name, records in tables.items():
            (root / version / f"{name}.json").write_text(json.dumps(records))
        return root

    return make


@pytest.mark.parametrize(
    ("version", "splits"),
    [("v1.0-mini", ("mini_train", "mini_val")), ("v1.0-trainval", ("train", "val"))],
)
def test_versions_of_nuscenes(renamed, tmp_path, version, splits):
    root = renamed(version, [create_splits_scenes()[split][0] for split in splits])
    before = sorted(root.rglob("*"))
    prepared = prepare_nuscenes(dataroot=root, version=version, output=tmp_path / "x")
    assert tuple(prepared) == splits
    for done in prepared.values():
        assert done.statistics.samples == 3 and done.statistics.objects.sum() > 0
        assert done.statistics.points[:, :10].sum() > 50  # from the boxes
    assert sorted(root.rglob("*")) == before
    assert not check_nuscenes(dataroot=root, version=version, output=tmp_path / "x").findings


def test_version_without_annotations(renamed):
    root = renamed(
        "v1.0-test", create_splits_scenes()["test"][:2], sample_annotation=[], instance=[]
    )
    prepared = prepare_nuscenes(dataroot=root, version="v1.0-test")
    assert list(prepared) == ["test"] and prepared["test"].statistics is None
    output = root / "fsdbev" / "v1.0-test"
    assert [p.name for p in output.iterdir()] == ["test.arrow"]
    report = check_nuscenes(dataroot=root, version="v1.0-test")
    assert not report.findings and "6 samples of 2 scenes" in report.summaries[0]


def test_custom_split_that_is_added_and_changed(synthetic_root, made, tmp_path):
    shutil.copytree(synthetic_root, tmp_path / "x")
    path = tmp_path / "x" / VERSION / "splits.json"
    splits = json.loads(path.read_text())
    for own in (splits["synth_train"], splits["synth_val"]):
        path.write_text(json.dumps({**splits, "own": own}))
        prepared = prepare_nuscenes(dataroot=tmp_path / "x", version=VERSION)
        assert list(prepared) == ["synth_train", "synth_val", "own"]
        assert prepared["own"].index.scene_names == own
        files = contents(tmp_path / "x" / "fsdbev" / VERSION)
        assert files.pop(Path("own.arrow")) and files == made  # the other files are unchanged


@pytest.mark.slow
def test_command_line_with_workers(synthetic_root, made, tmp_path, run_tool, capsys):
    arguments = ("--dataroot", synthetic_root, "--version", VERSION, "--output", tmp_path)
    assert run_tool("prepare_nuscenes", *arguments, "--workers", 1) == 0
    assert contents(tmp_path) == made
    printed = capsys.readouterr().out.splitlines()
    numbers = prepare_nuscenes(dataroot=synthetic_root, version=VERSION, output=tmp_path)
    start = next(i for i, line in enumerate(printed) if line.startswith("synth_val: 3 samples"))
    table = [line.split() for line in printed[start + 1 : start + 14]]
    assert table[0][:5] == ["class", "sweep", "combined", "pseudo", "pseudo_uncombined"]
    car, total = table[1], table[12]
    statistics = numbers["synth_val"].statistics
    expected = [*statistics.points[:, 0], statistics.objects[0], *statistics.without_points[:, 0]]
    assert car == ["car", *map(str, expected)]
    assert total[:2] == ["all", str(statistics.points[0].sum())]


def test_gaps_in_time_are_reported(synthetic_root, tmp_path, run_tool, capsys, caplog):
    """By preparation, in its output and log, and by the check: they are no defect."""
    root = DataRoot.copy_of(synthetic_root, tmp_path / "data")
    token = root.first_sample()["next"]
    times = {record["token"]: record["timestamp"] for record in root.table("sample")}
    last = next(record for record in root.table("sample") if record["prev"] == token)
    late = times[token] + 61_500_000
    root.change("sample", lambda record: record["token"] == last["token"], timestamp=late)
    text = "1 of 3 samples lack an earlier frame, which the key frame replaces, because samples "
    text += f"are too far apart (dataloader.max_frame_gap=2.5), such as {last['token']}, 61.5 s"
    arguments = ("--dataroot", root.path, "--version", VERSION, "--splits", "synth_train")
    assert run_tool("prepare_nuscenes", *arguments, "--workers", 0) == 0
    assert f"  {text}" in capsys.readouterr().out and f"synth_train: {text}" in caplog.text
    assert run_tool("prepare_nuscenes", *arguments, "--check") == 0
    assert text in capsys.readouterr().out


def test_command_that_error_messages_name(synthetic_root, tmp_path, run_tool):
    command = prepare_command(synthetic_root, VERSION, "synth_val", tmp_path, NUSCENES_CLASSES)
    python, tool, *arguments = command.split()
    assert (python, tool) == ("python", "tools/prepare_nuscenes.py")
    assert run_tool("prepare_nuscenes", *arguments, "--workers", 0) == 0
    assert (tmp_path / "synth_val.arrow").is_file()
    others = prepare_command(synthetic_root, VERSION, "a", tmp_path, ClassSet(names=["van"]))
    assert others.endswith(" --classes CONFIG")


def test_errors_of_the_command_line(synthetic_root, tmp_path, run_tool, capsys):
    arguments = ("--dataroot", synthetic_root, "--version", VERSION, "--output", tmp_path)
    assert run_tool("prepare_nuscenes", *arguments, "--splits", "tarin") == 1
    assert "no split 'tarin'" in capsys.readouterr().err
    assert run_tool("prepare_nuscenes", "--dataroot", tmp_path, "--version", "v9") == 1
    assert "missing category.json" in capsys.readouterr().err
