"""Which side of the door opens."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code, choice=None, path=()):
    """Runs code in a fresh interpreter that sees nothing of a real Detectron2 but ``path``."""
    env = {name: value for name, value in os.environ.items() if name != "FSDBEV_D2"}
    env["PYTHONPATH"] = os.pathsep.join(str(p) for p in (*path, ROOT))
    if choice is not None:
        env["FSDBEV_D2"] = choice
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=120)


SHOW = "import fsdbev.d2; print(fsdbev.d2.BACKEND)"
HIDE = (  # a Detectron2 that the interpreter itself has is out of sight
    "import importlib.util as u; f = u.find_spec; "
    "u.find_spec = lambda n, *a: None if n == 'detectron2' else f(n, *a); "
)


@pytest.fixture
def fake_detectron2(tmp_path):
    """A small package ``detectron2`` that can be imported."""
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "engine.py").touch()
    (package / "config.py").write_text("LazyCall, LazyConfig, instantiate = 'abc'\n")
    return tmp_path


@pytest.fixture
def broken_detectron2(tmp_path):
    """One whose engine fails to import."""
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "engine.py").write_text("raise OSError('undefined symbol: x')\n")
    return tmp_path


@pytest.mark.parametrize("choice", [None, "", "builtin"])
def test_builtin_without_detectron2(choice):
    result = run(HIDE + SHOW, choice)
    assert result.stdout == "builtin\n", result.stderr


@pytest.mark.parametrize("choice", [None, "detectron2"])
def test_detectron2_is_taken_where_it_is_installed(fake_detectron2, choice):
    code = (
        "import fsdbev.d2.config as ours, detectron2.config as theirs; "
        "print(fsdbev.d2.BACKEND, ours.LazyConfig is theirs.LazyConfig)"
    )
    result = run("import fsdbev.d2; " + code, choice, [fake_detectron2])
    assert result.stdout == "detectron2 True\n", result.stderr


def test_builtin_can_be_forced(broken_detectron2):
    result = run(SHOW, "builtin", [broken_detectron2])
    assert result.stdout == "builtin\n", result.stderr


@pytest.mark.parametrize("choice", [None, "detectron2"])
def test_a_broken_detectron2_is_an_error(broken_detectron2, choice):
    error = run(SHOW, choice, [broken_detectron2]).stderr
    assert "ImportError: Detectron2 is installed but cannot be imported" in error
    assert "OSError: undefined symbol: x" in error
    assert "FSDBEV_D2=builtin" in error


def test_detectron2_forced_but_absent():
    error = run(HIDE + SHOW, "detectron2").stderr
    assert "ImportError: FSDBEV_D2=detectron2, but Detectron2 is not installed" in error


def test_an_unknown_choice_is_refused():
    error = run(SHOW, "mmdet").stderr
    assert "ValueError: FSDBEV_D2='mmdet'" in error and "'builtin', 'detectron2'" in error


def test_a_folder_named_detectron2_is_no_installation(tmp_path):
    (tmp_path / "detectron2" / "configs").mkdir(parents=True)
    hide_installed = "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]; "
    result = run(hide_installed + SHOW, None, [tmp_path])
    assert result.stdout == "builtin\n", result.stderr


def test_the_door_knows_nothing_of_the_project():
    code = (
        "import fsdbev.d2.config, fsdbev.d2.data, fsdbev.d2.evaluation, fsdbev.d2.structures; "
        "import sys; print([m for m in sys.modules if m.startswith('fsdbev') "
        "and m != 'fsdbev' and not m.startswith('fsdbev.d2')])"
    )
    result = run(code, "builtin")
    assert result.stdout == "[]\n", result.stderr
