"""Modules of the working directory, in a ``.py`` config as in ``train.plugins``."""

import sys

import pytest

from fsdbev.config import load_config, read_config

CONFIG = "from module_here import VALUE\n\nmodel = dict(a=VALUE)\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a module; the config is in another folder."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "module_here.py").write_text("VALUE = 3")
    (tmp_path / "config.py").write_text(CONFIG)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    sys.modules.pop("module_here", None)


@pytest.mark.parametrize("read", [load_config, read_config])
def test_a_config_imports_modules_of_the_working_directory(folder, read):
    path = list(sys.path)
    assert read(str(folder / "config.py")) == {"model": {"a": 3}}
    # Last, so that no module of the folder hides an installed one.
    assert sys.path == [*path, str(folder / "here")]
    read(str(folder / "config.py"))
    assert sys.path.count(str(folder / "here")) == 1


def test_a_yaml_config_does_not_change_the_path(folder):
    (folder / "config.yaml").write_text("model: {a: 3}")
    path = list(sys.path)
    assert load_config(str(folder / "config.yaml")) == {"model": {"a": 3}}
    assert sys.path == path
