"""Import path of ``documents.py``, and a project folder for the commands of the documents."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """A folder like a clone of the project, with the configs that the documents tell to write."""
    from documents import python_blocks

    folder = tmp_path_factory.mktemp("workspace")
    for name in ("docs", "fsdbev", "projects", "tests", "tools"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "configs").mkdir()
    for path in (ROOT / "configs").iterdir():
        (folder / "configs" / path.name).symlink_to(path)
    for block in python_blocks():
        if block.file:
            (folder / block.file).write_text(block.code, encoding="utf-8")
    return folder
