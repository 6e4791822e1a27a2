"""tools/benchmark.py train, on a model as small as it goes; times themselves are not looked at."""

import json
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ["--batch", "1", "--num-cameras", "2", "--steps", "1", "--rounds", "1", "--threads", "1"]


@pytest.fixture
def main(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    return runpy.run_path(str(ROOT / "tools" / "benchmark.py"))["main"]


def arguments(*more, overrides=()):
    config = str(ROOT / "configs" / "fsdbev_tiny_synthetic.py")
    overrides = ["dataloader.image_size=[32,64]", *overrides]
    return ["train", *overrides, "--config-file", config, *SMALL, *more]


def test_a_row_for_each_variant(main, tmp_path, capsys):
    file = tmp_path / "rows.json"
    assert main(arguments("--variants", "float32", "checkpointing", "--json", str(file))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["float32", "checkpointing"]
    content = json.loads(file.read_text())
    first, second = content["rows"]
    assert first["ratio"] == 1 and second["ratio"] > 0
    assert first["peak_bytes"] > 1e8 and 0 < first["share_of_peak"]
    assert content["setting"]["GMACs a step"] > 0


def test_errors_end_before_anything_is_measured(main, tmp_path, capsys):
    assert main(arguments("--json", str(tmp_path / "none" / "rows.json"))) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main([*arguments(), "--steps", "0"]) == 1
    assert "start at 1, got" in capsys.readouterr().err


def test_a_variant_that_fails_says_why(main, capsys):
    command = arguments("--variants", "float32", overrides=["model.backbone.depth=7"])
    assert main(command) == 1
    assert capsys.readouterr().err.startswith("error: ")
