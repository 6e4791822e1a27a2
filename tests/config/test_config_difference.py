"""Difference of two configs, and the output of --print-config and --diff-config."""

import sys
from pathlib import Path

import pytest

from fsdbev.config import load_config
from fsdbev.config.difference import Change, difference
from fsdbev.config.loading import read_config
from fsdbev.engine import run

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    str(path.relative_to(ROOT))
    for folder in ("configs", "projects")
    for path in (ROOT / folder).glob("**/*.py")
    if "configs" in path.parts and "common" not in path.parts and path.name != "rows.py"
)
TINY = "configs/fsdbev_tiny_synthetic.py"


@pytest.fixture(autouse=True)
def project_folder(monkeypatch):
    monkeypatch.chdir(ROOT)


def differences(folder, base, value):
    """Returns the lines of the difference of two config files with these texts."""
    for name, text in {"base": base, "value": value}.items():
        (folder / f"{name}.py").write_text(text)
    base, value = (read_config(str(folder / f"{name}.py")) for name in ("base", "value"))
    return [str(change) for change in difference(base, value)]


def test_changed_added_and_removed_values(tmp_path):
    base = "a = dict(x=1, same=[1, {}], gone=None, part=dict(p=0.5), z='${.x}')"
    value = "a = dict(x=1.0, same=[1, {}], part=None, z=1, new=dict(b=[True], c=[], d='é'))"
    assert differences(tmp_path, base, value) == [
        "a.gone: null -> (not there)",
        "a.new.b.0: (not there) -> true",
        "a.new.c: (not there) -> []",
        'a.new.d: (not there) -> "é"',
        "a.part: (not there) -> null",
        "a.part.p: 0.5 -> (not there)",
        "a.x: 1 -> 1.0",
    ]


def test_a_reference_to_a_changed_value_is_a_change(tmp_path):
    text = "a = dict(x={}, y='${{.x}}')"
    assert differences(tmp_path, text.format(1), text.format(2)) == ["a.x: 1 -> 2", "a.y: 1 -> 2"]


def test_a_project_and_the_config_that_it_extends():
    base = load_config("configs/fsdbev_r50_cbgs.py")
    changes = difference(base, load_config("projects/BEVDet/configs/bevdet4d_r50_cbgs.py"))
    assert Change("model.depth_net.name", '"DepthNet"', '"PixelDepthNet"') in changes
    assert Change("model.depth_net.dropout", "0.5", "(not there)") in changes
    assert Change("train.plugins.0", "(not there)", '"projects.BEVDet"') in changes


@pytest.mark.parametrize("path", CONFIGS)
def test_every_config_is_printed_read_again_and_compared(path, capsys, tmp_path):
    run(["--config-file", path, "--print-config", "train.log_period=7"])
    text = capsys.readouterr().out
    assert "${model.classes}" in text and "log_period: 7\n" in text
    (tmp_path / "config.yaml").write_text(text)
    run(["--config-file", str(tmp_path / "config.yaml"), "--diff-config", path])
    assert capsys.readouterr().out == "train.log_period: 20 -> 7\n"


def test_no_difference_is_printed(capsys):
    base = "configs/fsdbev_r50_cbgs.py"
    run(["--config-file", "configs/ablations/fsd_pci_msfe.py", "--diff-config", base])
    assert capsys.readouterr().out == "no difference\n"


@pytest.mark.parametrize("given", [[], ["--diff-config", TINY]])
def test_the_report_has_a_difference_where_a_base_is_given(given, monkeypatch, tmp_path):
    """--eval-only passes config file, overrides and difference to the evaluation."""
    module, sources = sys.modules["fsdbev.engine.main"], []
    monkeypatch.setattr(module, "launch", lambda main, args, *_: main(args))
    monkeypatch.setattr(module, "default_setup", lambda *_: None)
    monkeypatch.setattr(module, "set_determinism", lambda *_: None)
    monkeypatch.setattr(module, "setup_logger", lambda *_, **__: None)
    monkeypatch.setattr(module, "evaluate_only", lambda *_, source, **__: sources.append(source))
    overrides = (f"train.output_dir={tmp_path}", "train.log_period=7")
    run(["--config-file", TINY, "--eval-only", *given, *overrides])
    (source,) = sources
    assert (source.config_file, source.overrides) == (TINY, overrides)
    assert source.base == (TINY if given else None)
    assert (source.changes is not None) == bool(given)
    if given:
        assert Change("train.log_period", "20", "7") in source.changes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([TINY, "--print-config", "train.max_itre=3"], "train.max_iter"),
        ([TINY, "--diff-config", TINY, "train.max_itre=3"], "train.max_iter"),
        (["configs/no_such.py", "--print-config"], "no_such.py"),
        ([TINY, "--diff-config", "configs/no_such.py"], "no_such.py"),
        ([TINY, "--diff-config"], "expected one argument"),
        ([TINY, "--print-config", "--diff-config", TINY], "not allowed with"),
        (["configs/common/schedule.py", "--print-config"], "train.max_iter"),  # a part of a config
    ],
)
def test_wrong_input_is_the_usual_error(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(["--config-file", *arguments])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and message in printed.err and not printed.out
