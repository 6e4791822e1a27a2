"""Checkpoint files: atomic writes, safe reads."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import ListConfig

from fsdbev.checkpoint import TrainingCheckpointer, read_checkpoint, write_checkpoint, write_weights
from fsdbev.checkpoint.files import WEIGHT_FILES
from fsdbev.utils.atomic_write import unfinished_paths


@pytest.fixture
def checkpointer(tmp_path):
    model = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(model.weight, 1.0)
    return TrainingCheckpointer(model, str(tmp_path))


def test_process_killed_before_the_rename_leaves_the_old_file_intact(checkpointer, tmp_path):
    checkpointer.save("model", iteration=1)
    process = os.fork()
    if not process:
        try:
            os.replace = lambda *_: os._exit(9)
            checkpointer.save("model", iteration=2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    assert len(unfinished_paths(tmp_path, "*.pth")) == 1
    old = read_checkpoint(str(tmp_path / "model.pth"))
    assert old["iteration"] == 1 and torch.equal(old["model"]["weight"], torch.ones(1, 2))
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model.pth")

    checkpointer.save("next", iteration=3)  # removes unfinished files
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model.pth", "next.pth"]
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "next.pth")


def test_containers_are_stored_as_builtin_ones(tmp_path):
    path = str(tmp_path / "a.pth")
    data = {"list": ListConfig([1, 2.5]), "number": np.float64(0.5), "pair": (1, "b"), "none": None}
    write_checkpoint({"model": {"w": torch.ones(1)}, "extra": data}, path)
    extra = torch.load(path, weights_only=True)["extra"]
    assert extra == {"list": [1, 2.5], "number": 0.5, "pair": (1, "b"), "none": None}
    assert type(extra["list"]) is list and type(extra["number"]) is float


def test_object_is_refused_when_writing(tmp_path):
    with pytest.raises(ValueError, match=r"trainer\.hooks\.0 is a PosixPath"):
        write_checkpoint({"trainer": {"hooks": [Path("a")]}}, str(tmp_path / "a.pth"))
    assert not os.listdir(tmp_path)


class Attack:
    """Object that creates a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return (os.mkdir, (self.folder,))


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    attack = Attack(tmp_path / "attacked")
    torch.save({"model": attack}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(attack, protocol=2))
    (tmp_path / "c.pth").write_bytes(b"")
    for name in "abc":
        with pytest.raises(ValueError, match=f"{name}.pth.*is not a checkpoint"):
            read_checkpoint(str(tmp_path / f"{name}.pth"))
    assert not os.path.exists(attack.folder)


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"model": w}, lambda w: {"state_dict": w}])
def test_weights_are_found_in_a_file(tmp_path, wrap):
    torch.save(wrap({"w": torch.ones(2)}), tmp_path / "a.pt")
    assert read_checkpoint(str(tmp_path / "a.pt"))["model"]["w"].tolist() == [1, 1]


def test_missing_file_and_wrong_content(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.pth"):
        read_checkpoint(str(tmp_path / "none.pth"))
    torch.save([1], tmp_path / "a.pth")
    with pytest.raises(ValueError, match="contains a list"):
        read_checkpoint(str(tmp_path / "a.pth"))


@pytest.mark.parametrize("ending", WEIGHT_FILES)
def test_weights_are_read_back_bit_for_bit_without_shared_memory(tmp_path, ending):
    memory = torch.randn(100_000)
    weights = {
        "view": memory[3:7],
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "half": torch.randn(3).half(),
        "bfloat16": torch.tensor([-0.0, float("nan")], dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "same": memory[3:7],
        "empty": torch.zeros(0, 3),
    }
    path = str(tmp_path / f"a{ending}")
    write_weights(weights, path, entry="model")
    back = read_checkpoint(path)["model"]
    assert back.keys() == weights.keys() and os.path.getsize(path) < 10_000
    for name, value in weights.items():
        assert back[name].dtype == value.dtype and back[name].shape == value.shape
        assert bits(back[name]) == bits(value)


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def test_other_endings_are_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"a\.pt' must end in \.pth or \.safetensors"):
        write_weights({"w": torch.ones(1)}, str(tmp_path / "a.pt"), entry="model")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("ending", WEIGHT_FILES)
def test_truncated_and_other_files_are_refused(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    write_weights({"w": torch.randn(50), "v": torch.randn(50)}, str(path), entry="model")
    original = path.read_bytes()
    truncated = [original[: len(original) * i // 20] for i in range(20)]
    for content in (*truncated, b"<html>not found</html>", b"\x80\x02}", bytes(range(256)) * 9):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"a{ending}' is not (a checkpoint|an intact)"):
            read_checkpoint(str(path))


def test_file_with_other_objects_names_them_and_the_remedy(tmp_path):
    torch.save({"meta": {"score": np.float64(1)}, "state_dict": {}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"contains a numpy\.\w+\.multiarray\.scalar") as error:
        read_checkpoint(str(tmp_path / "a.pth"))
    assert "convert_checkpoint.py --foreign-objects" in str(error.value)
    assert "weights_only=False" not in str(error.value)
