"""Selection of the backend of ``fsdbev.d2``: Detectron2 or the built-in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Files of a fake package ``detectron2``, by kind of installation.
INSTALLED = {
    "nothing": {},
    "a folder": {"configs/base.yaml": ""},
    "one that works": {
        "__init__.py": "",
        "engine.py": "",
        "config.py": "LazyCall, LazyConfig, instantiate = 'abc'\n",
    },
    "a broken one": {"__init__.py": "", "engine.py": "raise OSError('undefined symbol: x')\n"},
}
#: Hides a Detectron2 in the interpreter's own site-packages.
HIDE = "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]\n"


@pytest.fixture
def run(tmp_path):
    """Runs code in a new interpreter: run(code, key of INSTALLED, value of FSDBEV_D2)."""

    def run(code, installed="nothing", choice=None):
        for name, text in INSTALLED[installed].items():
            path = tmp_path / "detectron2" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        env = {name: value for name, value in os.environ.items() if name != "FSDBEV_D2"}
        env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
        if choice is not None:
            env["FSDBEV_D2"] = choice
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, env=env, cwd="/", capture_output=True, text=True, timeout=120
        )

    return run


@pytest.mark.parametrize(
    ("installed", "choice", "backend"),
    [
        ("nothing", None, "builtin"),
        ("nothing", "", "builtin"),
        ("nothing", "builtin", "builtin"),
        ("a folder", None, "builtin"),
        ("a broken one", "builtin", "builtin"),
        ("one that works", None, "detectron2"),
        ("one that works", "detectron2", "detectron2"),
    ],
)
def test_selected_backend(run, installed, choice, backend):
    result = run(HIDE + "import fsdbev.d2; print(fsdbev.d2.BACKEND)", installed, choice)
    assert result.stdout == f"{backend}\n", result.stderr


BROKEN = (
    "ImportError: Detectron2 is installed but cannot be imported (OSError: undefined symbol: x)"
)


@pytest.mark.parametrize(
    ("installed", "choice", "message"),
    [
        ("a broken one", None, BROKEN),
        ("a broken one", "detectron2", BROKEN),
        ("nothing", "detectron2", "ImportError: FSDBEV_D2=detectron2, but Detectron2 is not inst"),
        (
            "nothing",
            "mmdet",
            "ValueError: FSDBEV_D2='mmdet': it must be 'builtin', 'detectron2' or",
        ),
    ],
)
def test_unusable_backends_are_an_error(run, installed, choice, message):
    assert message in run(HIDE + "import fsdbev.d2", installed, choice).stderr


def test_names_are_those_of_detectron2(run):
    code = (
        "import fsdbev.d2.config as ours, detectron2.config as theirs; "
        "print(ours.LazyConfig is theirs.LazyConfig)"
    )
    result = run(code, "one that works")
    assert result.stdout == "True\n", result.stderr


def test_d2_imports_nothing_else_of_the_project(run):
    code = (
        "import fsdbev.d2.config, fsdbev.d2.data, fsdbev.d2.evaluation, fsdbev.d2.structures; "
        "import sys; print(sorted(m for m in sys.modules if m.startswith('fsdbev') "
        "and not m.startswith('fsdbev.d2')))"
    )
    result = run(code, choice="builtin")
    own = "['fsdbev', 'fsdbev.utils', 'fsdbev.utils.lazy_names']\n"  # of fsdbev/__init__.py
    assert result.stdout == own, result.stderr
