"""What a run changed: of its config file's base, by file and command line, as lists and printed."""

from pathlib import Path

import pytest
import yaml

from fsdbev.d2.config import LazyConfig
from fsdbev.engine import load_config, run
from fsdbev.engine.config_difference import NOT_THERE, Change, difference_from_base

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("configs", "projects")
    for path in (ROOT / folder).glob("**/*.py")
    if "configs" in path.parts and "common" not in path.parts and path.name != "rows.py"
)


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def difference(path, *overrides):
    return difference_from_base(str(path), load_config(str(path), overrides))


def by_key(changes):
    return {change.key: (change.base, change.value) for change in changes}


def test_a_file_that_changes_one_key():
    changes = difference("configs/fsdbev_r50_cbgs_bev256.py")
    assert changes == [Change("model.grid.cell", 0.8, 0.4)]
    assert str(changes[0]) == "model.grid.cell: 0.8 -> 0.4"


def test_overrides_are_changes_too_and_what_refers_to_them_is_not():
    changes = difference(
        "configs/fsdbev_r50_cbgs_bev256.py", "train.max_iter=7", "model.num_frames=3"
    )
    assert by_key(changes) == {
        "train.max_iter": (46342, 7),
        "model.num_frames": (2, 3),
        "model.grid.cell": (0.8, 0.4),
    }


def test_parts_that_come_go_and_change():
    changes = by_key(difference("projects/BEVDet/configs/bevdet4d_r50_cbgs.py"))
    assert changes["model.depth_net.name"] == ("DepthNet", "PixelDepthNet")
    assert changes["model.depth_net.dropout"] == (0.5, NOT_THERE)
    assert changes["train.plugins"] == ([], ["projects.BEVDet"])
    new = by_key(difference("projects/BEVDepth/configs/bevdepth_r50_cbgs.py"))
    before, part = new["model.depth_refinement"]
    assert before is NOT_THERE and part["_target_"].startswith("fsdbev.modeling.")
    assert part["channels"] == "${..depth_net.context_channels}"


def test_a_part_of_a_config_that_is_taken_is_a_base():
    """``_tiny = get_config(...)`` is private; ``model = get_config(...).model`` is a base."""
    changes = by_key(difference("projects/LSS/configs/lss_r50.py"))
    assert changes["model.name"] == ("LiftSplatDetector", "LSS")


FORMS = """
from omegaconf import OmegaConf

from fsdbev import model_zoo
from fsdbev.d2.config import LazyConfig

from ..base import first as renamed

second = LazyConfig.load_rel("../base.py", "second")
common = model_zoo.get_config("common/train.py").train
own = dict(value=1, reference="${renamed.value}")

renamed.value = 5
second.items = [1, 2]
common.max_iter = 3
own["value"] = 2
"""


def test_all_ways_to_take_a_config(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "base.py").write_text("first = dict(value=4)\nsecond = dict(items=[1], gone='')\n")
    (folder / "leaf.py").write_text(FORMS)
    assert [str(change) for change in difference(folder / "leaf.py", "own.value=8")] == [
        "renamed.value: 4 -> 5",
        "second.items: [1] -> [1, 2]",
        "common.max_iter: 90000 -> 3",
        "own.value: 2 -> 8",  # nobody else's: the file is its base
    ]


def test_a_reference_and_its_value_are_the_same(tmp_path):
    (tmp_path / "base.py").write_text('a = dict(x=1, y="${.x}", z="${.x}")\n')
    (tmp_path / "leaf.py").write_text("from .base import a\n\na.y = 1\na.z = 2\n")
    changes = difference(tmp_path / "leaf.py")
    assert [str(change) for change in changes] == ["a.z: ${.x} -> 2"]


def test_a_saved_config_differs_by_its_overrides(tmp_path):
    LazyConfig.save(load_config("configs/fsdbev_tiny_synthetic.py"), str(tmp_path / "config.yaml"))
    assert difference(tmp_path / "config.yaml") == []
    changes = difference(tmp_path / "config.yaml", "train.seed=3", "model.bev_encoder=null")
    assert by_key(changes)["train.seed"] == (0, 3)
    assert by_key(changes)["model.bev_encoder"][1] is None


@pytest.mark.parametrize("path", CONFIGS)
def test_every_config_is_printed_and_compared(path, capsys, tmp_path):
    run(["--config-file", path, "--print-config", "train.seed=5"])
    text = capsys.readouterr().out
    saved = tmp_path / "config.yaml"
    saved.write_text(text)
    assert "${" not in text and yaml.safe_load(text)["train"]["seed"] == 5
    run(["--config-file", str(saved), "--print-config"])
    assert capsys.readouterr().out == text

    run(["--config-file", path, "--diff-config", "train.seed=5"])
    lines = capsys.readouterr().out.splitlines()
    assert "train.seed: 0 -> 5" in lines
    assert all(": " in line and " -> " in line for line in lines)
    assert len(lines) == 1 + len(difference(path))


def test_no_difference_is_said(capsys):
    run(["--config-file", "configs/ablations/fsd_pci_msfe.py", "--diff-config"])
    assert capsys.readouterr().out == "no difference\n"


@pytest.mark.parametrize("option", ["--print-config", "--diff-config"])
@pytest.mark.parametrize(
    ("config", "override", "message"),
    [
        ("configs/fsdbev_tiny_synthetic.py", "train.max_itre=3", "train.max_iter"),
        ("configs/no_such.py", "train.max_iter=3", "no_such.py"),
    ],
)
def test_wrong_input_is_the_usual_error(option, config, override, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(["--config-file", config, option, override])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and message in printed.err and not printed.out


def test_a_part_of_a_config_cannot_be_resolved_and_says_so(capsys):
    with pytest.raises(SystemExit):
        run(["--config-file", "configs/common/schedule.py", "--print-config"])
    assert "train.max_iter" in capsys.readouterr().err
