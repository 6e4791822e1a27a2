"""The public names of ``fsdbev.data``, which are imported at first use."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fsdbev.data

SOURCE = Path(fsdbev.data.__file__)


def test_public_names_are_those_of_their_modules():
    assert {"MultiViewMapper", "FrameIndex", "Frame", "Annotations"} <= set(fsdbev.data.__all__)
    assert {"write_index", "read_rig", "build_train_loader"} <= set(fsdbev.data.__all__)
    for name in fsdbev.data.__all__:
        module = importlib.import_module(fsdbev.data._HOMES[name])
        assert getattr(fsdbev.data, name) is getattr(module, name)
    assert set(fsdbev.data.__all__) <= set(dir(fsdbev.data))
    with pytest.raises(AttributeError, match="no attribute 'MultiViewMaper'"):
        _ = fsdbev.data.MultiViewMaper


def test_type_checkers_have_the_same_names():
    (block,) = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    names = {alias.name: node.module for node in block.body for alias in node.names}
    assert names == fsdbev.data._HOMES and sorted(names) == fsdbev.data.__all__


def test_the_import_loads_no_data_module():
    """Neither PyTorch nor the loaders."""
    code = (
        "import fsdbev.data, sys; print(*(m for m in sys.modules if m.startswith('fsdbev.data')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"],
        cwd=SOURCE.parents[2],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["fsdbev.data"])
