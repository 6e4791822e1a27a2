"""The public names of ``fsdbev``."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fsdbev

SOURCE = Path(fsdbev.__file__)


def test_every_public_name_is_that_of_its_module():
    for name in fsdbev.__all__:
        module = importlib.import_module(fsdbev._HOMES[name])
        assert getattr(fsdbev, name) is getattr(module, name)
    assert set(fsdbev.__all__) <= set(dir(fsdbev))
    for path in SOURCE.parent.glob("*/__init__.py"):
        module = importlib.import_module(f"fsdbev.{path.parent.name}")
        assert all(hasattr(module, name) for name in getattr(module, "__all__", ()))


def test_type_checkers_have_the_same_names():
    blocks = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    (block,) = (node for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING")
    names = {alias.name: node.module for node in block.body for alias in node.names}
    assert names == fsdbev._HOMES
    assert sorted(names) == sorted(fsdbev.__all__)
    assert (SOURCE.parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        _ = fsdbev.Predicter


def test_the_import_does_not_load_torch():
    code = "import fsdbev, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE.parents[1]).returncode == 0
