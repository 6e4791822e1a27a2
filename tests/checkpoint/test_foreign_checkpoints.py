"""Extraction of weights from files with foreign objects: no code of a file runs in any process."""

import builtins
import functools
import importlib
import operator
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fsdbev.checkpoint import extract_weights, read_checkpoint
from fsdbev.checkpoint.foreign import load_tensors_with_placeholders

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2).half()}


class Call:
    """Object that is pickled as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(marker):
    """Returns objects that create the file ``marker`` when ``pickle`` loads them."""
    code = f"open({marker!r}, 'w').close()"
    touch = f'{sys.executable} -c "{code}"'
    get_open = Call(functools.partial, open, marker, "w")
    return {
        "os.system": Call(os.system, touch),
        "eval": Call(builtins.eval, code),
        "exec": Call(builtins.exec, code),
        "Popen": Call(subprocess.Popen, [sys.executable, "-c", code]),
        "open": Call(open, marker, "w"),
        "hub": Call(
            functools.partial(torch.hub.load, source="local"), str(Path(marker).parent), "x"
        ),
        "import": Call(importlib.import_module, "code_of_the_attacker"),
        "operator": Call(operator.methodcaller("__call__", marker, "w"), open),
        "partial": Call(operator.call, get_open) if hasattr(operator, "call") else get_open,
        "nested": [{"deep": (1, {"deeper": [Call(builtins.exec, code)]})}],
        "as a key": {Call(builtins.exec, code): 1},
        "state": Call(getattr, Call(importlib.import_module, "os"), "system"),
    }


NAMES = list(attacks("x"))


@pytest.fixture
def bait(tmp_path, monkeypatch):
    """A folder, first on the path, whose modules create the file ``ran`` when imported."""
    for name in ("code_of_the_attacker.py", "hubconf.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nx = print\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_an_attack_runs(bait, name, legacy):
    path = bait / "evil.pth"
    content = {"state_dict": WEIGHTS, "meta": attacks(str(bait / "ran"))[name]}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match="evil.pth' is not a checkpoint that can be read safely"):
        read_checkpoint(str(path))
    try:
        found = load_tensors_with_placeholders(str(path))
    except ValueError as error:
        assert str(error).startswith("refused: ")
    else:
        assert_weights(found)
    assert not (bait / "ran").exists()


def test_nothing_runs_in_the_subprocess(bait):
    harmful = attacks(str(bait / "ran"))
    blocked = harmful.pop("os.system")
    torch.save({"state_dict": WEIGHTS, "meta": harmful["nested"]}, bait / "evil.pth")
    assert_weights(extract_weights(str(bait / "evil.pth")))
    torch.save({"state_dict": WEIGHTS, "meta": blocked}, bait / "evil.pth")
    with pytest.raises(ValueError, match=r"evil.pth': refused: .*posix.system.*blocked"):
        extract_weights(str(bait / "evil.pth"))
    assert not (bait / "ran").exists()


def test_the_attacks_work_with_pickle(bait):
    code = pickle.dumps(attacks(str(bait / "ran"))["nested"])
    subprocess.run([sys.executable, "-c", f"import pickle; pickle.loads({code!r})"], check=True)
    assert (bait / "ran").exists()


def assert_weights(found):
    assert found.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


class History:
    """Object with state, as training code stores it in checkpoints."""

    def __init__(self):
        self.values = np.arange(3)
        self.best = {"map": np.float64(0.3)}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrap", ["state_dict", "model", ""])
def test_weights_are_extracted_from_files_with_harmless_objects(tmp_path, wrap, legacy):
    meta = {"history": History(), "path": Path("a"), "score": np.float64(1)}
    content = {wrap: WEIGHTS, "meta": meta} if wrap else WEIGHTS | {"meta": meta}
    path = tmp_path / "a.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert_weights(load_tensors_with_placeholders(str(path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [(History(), "but an object"), ({"a": 1}, "no tensors by name"), ([1], "no tensors by name")],
)
def test_file_without_weights(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        load_tensors_with_placeholders(str(tmp_path / "a.pth"))


def test_missing_and_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="a.pth"):
        extract_weights(str(tmp_path / "a.pth"))
    (tmp_path / "a.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="a.pth"):
        extract_weights(str(tmp_path / "a.pth"))
