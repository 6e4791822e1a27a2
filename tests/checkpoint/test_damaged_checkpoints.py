"""Damaged checkpoints: a changed byte is detected or has no effect; a resume skips damaged files
and logs them."""

import contextlib
import io
import logging
import os
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from fsdbev.checkpoint import TrainingCheckpointer, read_checkpoint, write_checkpoint, write_weights
from fsdbev.checkpoint.checkpointer import LAST
from fsdbev.d2.utils import comm
from fsdbev.structures import ClassSet

CONTENT = {
    "model": {"weight": torch.arange(60.0).reshape(3, 20), "half": torch.ones(5).bfloat16()},
    "iteration": 7,
    "text": "grün",
}
FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def original(written):
    return written[0].read_bytes()


def is_same(found, expected):
    if isinstance(expected, torch.Tensor):
        return (
            isinstance(found, torch.Tensor)
            and found.dtype == expected.dtype
            and torch.equal(found, expected)
        )
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            is_same(found[key], value) for key, value in expected.items()
        )
    return type(found) is type(expected) and found == expected


@pytest.fixture
def written(request, tmp_path):
    """A file with the requested ending, and its content."""
    ending = request.param
    path = tmp_path / f"a{ending}"
    if ending == ".pth":
        write_checkpoint(CONTENT, str(path))
        return path, CONTENT
    settings = {"model.classes": ClassSet(names=["vehicle", "person"]).to_dict()}
    write_weights(CONTENT["model"], str(path), entry="model", settings=settings)
    return path, {"model": CONTENT["model"], "model_settings": settings}


@pytest.mark.parametrize("written", [".pth", ".safetensors"], indirect=True)
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_every_byte_that_matters_is_protected(written, step):
    """After a change of one byte, a file is refused or its content is the same."""
    path, content = written
    original = path.read_bytes()
    refused = 0
    for place in range(0, len(original), step):
        changed = bytearray(original)
        changed[place] ^= 0xFF if place % 2 else 1 << place % 8
        path.write_bytes(changed)
        try:
            assert is_same(read_checkpoint(str(path)), content), f"byte {place}"
        except ValueError:
            refused += 1
    assert refused > len(original) // step // 2


@pytest.mark.parametrize("written", [".pth"], indirect=True)
def test_record_marked_as_a_folder_is_refused(tmp_path, written):
    """torch.load skips such a record and returns a tensor of uninitialized memory."""
    path, _ = written
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist()]
    place = content.find(b"PK\x01\x02")
    for _ in range(next(i for i, name in enumerate(names) if name.endswith("data/0"))):
        place = content.find(b"PK\x01\x02", place + 4)
    content[place + 38] |= 0x10
    path.write_bytes(content)
    with pytest.raises(ValueError, match="marked as a folder"):
        read_checkpoint(str(path))


@pytest.mark.parametrize("written", [".pth"], indirect=True)
def test_compressed_archives_are_refused(tmp_path, written):
    path, _ = written
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path) as old:
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
            for info in old.infolist():
                new.writestr(info.filename, old.read(info))
    with pytest.raises(ValueError, match="compressed"):
        read_checkpoint(str(bomb))


def test_header_of_petabytes_allocates_no_memory(tmp_path):
    path = tmp_path / "a.safetensors"
    claims = b'{"w":{"dtype":"F32","shape":[1125899906842624],"data_offsets":[0,4503599627370496]}}'
    for header in (len(claims).to_bytes(8, "little") + claims, b"\xff" * 7 + b"\x0f{}"):
        path.write_bytes(header)
        with pytest.raises(ValueError, match="not an intact safetensors file"):
            read_checkpoint(str(path))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@FUZZ
@given(content=st.binary(max_size=300), valid_start=st.booleans())
def test_any_bytes_are_refused(tmp_path, ending, content, valid_start):
    path = tmp_path / f"random{ending}"
    start = b"PK\x03\x04" if ending == ".pth" else len(content).to_bytes(8, "little")
    path.write_bytes(start + content if valid_start else content)
    with pytest.raises(ValueError, match="random"):
        read_checkpoint(str(path))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("written", [".pth", ".safetensors"], indirect=True)
@FUZZ
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), min_size=1, max_size=4),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
def test_any_changes_of_a_file_are_refused_or_have_no_effect(written, original, changes, cut):
    path, content = written
    data = bytearray(original)
    for place, new in changes:
        place = int(place * (len(data) - 1))
        data[place : place + len(new)] = new
    if cut is not None:
        del data[int(cut * len(data)) :]
    path.write_bytes(data)
    try:
        found = read_checkpoint(str(path))
    except ValueError:
        return
    assert is_same(found, content)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("written", [".pth"], indirect=True)
@FUZZ
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3),
    without=st.integers(0, 20),
)
def test_any_records_with_valid_checksums_are_read_or_refused(written, original, changes, without):
    """Manipulated files rather than damaged ones."""
    path, _ = written
    with zipfile.ZipFile(io.BytesIO(original)) as old, zipfile.ZipFile(path, "w") as new:
        for number, info in enumerate(old.infolist()):
            content = bytearray(old.read(info))
            if info.filename.endswith("data.pkl"):
                for place, byte in changes:
                    content[int(place * (len(content) - 1))] = byte
            if number != without:
                new.writestr(info.filename, bytes(content))
    with contextlib.suppress(ValueError):
        assert isinstance(read_checkpoint(str(path)), dict)


@pytest.fixture
def checkpointer(tmp_path):
    """A checkpointer with checkpoints of iterations 1, 3 and 5; all weights equal the iteration."""
    checkpointer = TrainingCheckpointer(torch.nn.Linear(2, 1), str(tmp_path))
    for iteration in (1, 3, 5):
        torch.nn.init.constant_(checkpointer.model.weight, iteration)
        checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
    return checkpointer


def damage(path):
    content = bytearray(path.read_bytes())
    place = content.find(torch.tensor([5.0, 5.0]).numpy().tobytes())
    content[place + 1 if place > 0 else len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def make_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [damage, cut, empty, remove, make_folder])
def test_resume_falls_back_to_the_newest_whole_one_and_says_so(
    checkpointer, tmp_path, caplog, harm
):
    harm(tmp_path / "model_0000005.pth")
    content = checkpointer.resume_or_load("", resume=True)
    assert content["iteration"] == 3
    assert torch.equal(checkpointer.model.weight, torch.full((1, 2), 3.0))
    assert "model_0000005.pth is skipped" in caplog.text
    assert "Resuming from" in caplog.text and "model_0000003.pth" in caplog.text
    assert (tmp_path / "model_0000005.pth").exists() == (harm is not remove)


def test_none_whole_is_an_error_that_lists_them(checkpointer, tmp_path):
    for path in tmp_path.glob("*.pth"):
        cut(path)
    assert checkpointer.has_checkpoint()
    with pytest.raises(ValueError, match="none of the checkpoints") as error:
        checkpointer.resume_or_load("", resume=True)
    assert all(f"model_000000{i}.pth" in str(error.value) for i in (1, 3, 5))
    assert len(list(tmp_path.glob("*.pth"))) == 3


@pytest.mark.parametrize(
    "tag", [b"", b"\xff\xfe\0", b"../x.pth", b"/etc/passwd", b"a/b.pth", b"x" * 10_000, b"..", None]
)
def test_tag_that_names_no_checkpoint_here_is_not_followed(checkpointer, tmp_path, tag):
    (tmp_path.parent / "x.pth").write_bytes((tmp_path / "model_0000001.pth").read_bytes())
    if tag is None:
        (tmp_path / LAST).unlink()
    else:
        (tmp_path / LAST).write_bytes(tag)
    assert checkpointer.get_checkpoint_file() == "" and checkpointer.has_checkpoint()
    assert checkpointer.newest_complete() == str(tmp_path / "model_0000005.pth")


def test_without_a_tag_the_newest_file_is_used(checkpointer, tmp_path):
    (tmp_path / LAST).unlink()
    final, newer = tmp_path / "model_final.pth", tmp_path / "model_0000005.pth"
    final.write_bytes((tmp_path / "model_0000003.pth").read_bytes())
    os.utime(final, (2e9, 2e9))
    assert checkpointer.newest_complete() == str(final)
    os.utime(newer, (3e9, 3e9))
    assert checkpointer.newest_complete() == str(newer)


def test_a_missing_folder_is_no_error(tmp_path):
    checkpointer = TrainingCheckpointer(torch.nn.Linear(2, 1), str(tmp_path / "none"))
    assert not checkpointer.has_checkpoint() and checkpointer.newest_complete() == ""
    assert checkpointer.resume_or_load("", resume=True) == {}


def test_errors_of_other_ranks(checkpointer, tmp_path, monkeypatch):
    """A rank that cannot read the checkpoint of rank 0 names it; all ranks raise rank 0's error."""
    path = str(tmp_path / "elsewhere" / "model_0000005.pth")
    gathered = iter([[(path, None)], None])
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "get_rank", lambda: 3)
    monkeypatch.setattr(comm, "all_gather", lambda data: next(gathered) or [None, data])
    with pytest.raises(ValueError, match=r"rank 3 cannot read .*elsewhere.*all machines share"):
        checkpointer.resume_or_load("", resume=True)
    monkeypatch.setattr(comm, "all_gather", lambda data: [("", "none is complete")])
    with pytest.raises(ValueError, match="none is complete"):
        checkpointer.newest_complete()


def test_every_damaged_file_is_logged_once(checkpointer, tmp_path, caplog):
    cut(tmp_path / "model_0000005.pth")
    cut(tmp_path / "model_0000003.pth")
    with caplog.at_level(logging.WARNING):
        assert checkpointer.newest_complete().endswith("model_0000001.pth")
    assert sum("is skipped" in record.message for record in caplog.records) == 2
