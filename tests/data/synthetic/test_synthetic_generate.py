"""Generation of a synthetic set: reproducible, complete or absent, overwrites no other files."""

import filecmp
import json
import logging
import os
from pathlib import Path

import pytest

from fsdbev.data.synthetic import VERSION, SyntheticOptions, generate, generator

TINY = SyntheticOptions(
    scenes_train=1, scenes_val=1, frames=1, image_size=(96, 54), density=0.4, lidar_azimuths=60
)


def _files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def assert_same_files(first: Path, second: Path, names: list[str]) -> None:
    _, different, errors = filecmp.cmpfiles(first, second, names, shallow=False)
    assert different == [] and errors == []


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "set"
    assert generate(str(out), TINY, workers=1)
    return out


def test_any_number_of_workers_writes_the_same_bytes(tiny, tmp_path):
    assert generate(str(tmp_path / "two"), TINY, workers=2)
    names = _files(tiny)
    assert names == _files(tmp_path / "two") and len(names) > 30
    assert_same_files(tiny, tmp_path / "two", names)


def test_another_seed_gives_another_world(tiny, tmp_path):
    other = SyntheticOptions(**{**TINY.as_dict(), "seed": 1})
    generate(str(tmp_path / "seed1"), other)
    tables = [
        json.loads((root / VERSION / "sample_annotation.json").read_text())
        for root in (tiny, tmp_path / "seed1")
    ]
    assert {r["token"] for r in tables[0]}.isdisjoint(r["token"] for r in tables[1])
    assert [r["size"] for r in tables[0]] != [r["size"] for r in tables[1]]


def test_a_complete_set_is_kept(tiny):
    before = {name: os.stat(tiny / name).st_mtime_ns for name in _files(tiny)}
    assert not generate(str(tiny), TINY)
    assert before == {name: os.stat(tiny / name).st_mtime_ns for name in _files(tiny)}


def test_a_set_of_an_earlier_version_has_the_defaults_of_newer_options(tmp_path):
    marker = tmp_path / "set" / VERSION / "synthetic.json"
    marker.parent.mkdir(parents=True)
    options = TINY.as_dict()
    assert (options.pop("rate"), options.pop("fisheye")) == (2.0, [])
    del options["traffic"], options["world"]
    marker.write_text(json.dumps({"format": generator.FORMAT, "options": options}))
    assert not generate(str(tmp_path / "set"), TINY)
    faster = SyntheticOptions(**{**TINY.as_dict(), "rate": 10.0})
    with pytest.raises(ValueError, match="different options"):
        generate(str(tmp_path / "set"), faster)


def test_other_options_are_an_error_that_names_the_remedy(tiny):
    other = SyntheticOptions(**{**TINY.as_dict(), "frames": 2})
    with pytest.raises(ValueError, match="--overwrite"):
        generate(str(tiny), other)


def test_overwrite_replaces_a_synthetic_set(tiny, tmp_path):
    """Also: the scenes of a split do not depend on the size of the other split."""
    out = tmp_path / "set"
    generate(str(out), SyntheticOptions(**{**TINY.as_dict(), "scenes_train": 0}))
    images = _files(out / "samples")
    assert images and set(images) < set(_files(tiny / "samples"))
    assert_same_files(tiny / "samples", out / "samples", images)
    only_train = SyntheticOptions(**{**TINY.as_dict(), "scenes_val": 0})
    generate(str(out), only_train, overwrite=True)
    splits = json.loads((out / VERSION / "splits.json").read_text())
    assert splits == {"synth_train": ["scene-0001"], "synth_val": []}
    assert os.listdir(tmp_path) == ["set"]


def test_other_files_are_never_overwritten(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(ValueError, match="not a synthetic data set"):
        generate(str(tmp_path), TINY, overwrite=True)
    assert os.listdir(tmp_path) == ["precious.txt"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(generator, "write_tables", fail)
    with pytest.raises(OSError, match="disk full"):
        generate(str(tmp_path / "set"), SyntheticOptions(**{**TINY.as_dict(), "scenes_val": 0}))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"scenes_train": 0, "scenes_val": 0},
        {"scenes_val": -1},
        {"frames": 0},
        {"frames": 41},
        {"frames": 201, "rate": 10},
        {"rate": 0.5},
        {"rate": 21},
        {"rate": float("nan")},
        {"fisheye": ("CAM_FRONT", "CAM_TOP")},
        {"image_size": (8, 270)},
        {"density": -0.1},
        {"lidar_azimuths": 1},
        {"seed": -1},
        {"traffic": "left"},
        {"world": "flat"},
    ],
)
def test_options_are_checked(wrong):
    with pytest.raises(ValueError, match=str(list(wrong)[0])):
        SyntheticOptions(**wrong)


def test_the_tool(tiny, run_tool, caplog):
    same = "--scenes-train 1 --scenes-val 1 --frames 1 --image-size 96x54 --density 0.4".split()
    same += ["--lidar-azimuths", "60"]
    other = ["--rate", "10", "--fisheye", "CAM_FRONT"]
    with caplog.at_level(logging.INFO):
        assert run_tool("make_synthetic_nuscenes", "--out", tiny, *same) == 0
        assert "nothing to do" in caplog.text
        assert run_tool("make_synthetic_nuscenes", "--out", tiny, *same, *other) == 2
        assert "'rate': 10.0, 'image_size': [96, 54], 'fisheye': ['CAM_FRONT']" in caplog.text
        assert run_tool("make_synthetic_nuscenes", "--out", tiny) == 2
        assert "--overwrite" in caplog.text
