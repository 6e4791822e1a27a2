"""Names of files that are not UTF-8: commands refuse them before their work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsdbev.utils.plain_file import check_file_names

TOOLS = Path(__file__).parents[2] / "tools"
#: A locale without UTF-8; Python would otherwise not use its encoding.
POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def refused(tool, *arguments, **environment):
    """Returns the end of the tool's error message."""
    command = [sys.executable, TOOLS / tool, *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True)
    assert done.returncode in (1, 2)
    return done.stderr.decode().strip().split("error: ")[-1]


# The other tools check it in the same function as prepare_nuscenes.py.
@pytest.mark.parametrize(
    "command", ["prepare_nuscenes.py --version x --dataroot", "train_net.py --config-file"]
)
def test_a_locale_of_another_encoding(tmp_path, command):
    assert refused(*command.split(), tmp_path / "für", **POSIX) == (
        "this locale's file names are ascii, but must be UTF-8; run it with PYTHONUTF8=1 in the "
        "environment"
    )
    assert not list(tmp_path.iterdir())


def test_the_remedy(tmp_path):
    message = refused(
        "train_net.py", "--config-file", tmp_path / "für", **POSIX | {"PYTHONUTF8": "1"}
    )
    assert "für" in message and "PYTHONUTF8" not in message


def test_other_bytes(tmp_path, monkeypatch):
    check_file_names()
    monkeypatch.setattr(sys, "argv", ["tool", "für", os.fsdecode(b"/data/f\xfcr")])
    with pytest.raises(ValueError, match=r"'/data/f\\udcfcr': is not UTF-8; rename the file or fo"):
        check_file_names()
    monkeypatch.setattr(sys, "argv", [])
    folder = os.path.join(os.fsencode(tmp_path), b"f\xfcr")
    os.mkdir(folder)
    monkeypatch.chdir(os.fsdecode(folder))
    with pytest.raises(ValueError, match="rename"):
        check_file_names()
