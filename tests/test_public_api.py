"""What ``import fsdbev`` offers."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fsdbev

SOURCE = Path(fsdbev.__file__)


def test_every_public_name_is_there_and_is_that_of_its_home():
    for name in fsdbev.__all__:
        home = importlib.import_module(fsdbev._HOMES[name])
        assert getattr(fsdbev, name) is getattr(home, name)
    assert set(fsdbev.__all__) <= set(dir(fsdbev))
    for path in SOURCE.parent.glob("*/__init__.py"):
        module = importlib.import_module(f"fsdbev.{path.parent.name}")
        assert all(hasattr(module, name) for name in getattr(module, "__all__", ()))


def test_type_checkers_see_the_same_names_in_the_same_homes():
    (block,) = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == fsdbev._HOMES
    assert sorted(seen) == sorted(fsdbev.__all__)
    assert (SOURCE.parent / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        _ = fsdbev.Predicter


def test_the_import_itself_is_light():
    code = "import fsdbev, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE.parents[1]).returncode == 0
