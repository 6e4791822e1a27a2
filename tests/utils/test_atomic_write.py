"""Atomic writing: files after errors, and the order of the steps."""

import errno
import json
import os

import pytest

from fsdbev.utils.atomic_write import atomic_folder, atomic_write, unfinished_paths, write_json


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_write_leaves_the_old_file_and_no_other(path, error):
    with pytest.raises(error, match="stop"), atomic_write(path) as file:
        file.write(b"new")
        raise error("stop")
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_full_disk_names_the_file(path, monkeypatch, failing):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match=r"file: can't be written .*is the disk full\?") as error:
        with atomic_write(str(path)) as file:
            file.write(b"new")
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == ["file"]


def test_error_keeps_its_kind(path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError, match="file: can't be written"), atomic_write(path):
        pass


def test_content_is_on_the_disk_before_the_rename(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.fstat(fd)), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    with atomic_write(path) as file:
        file.write(b"1234")
    content, rename, folder = calls
    assert content.st_size == 4 and rename == "rename"
    assert folder.st_ino == os.stat(path.parent).st_ino
    assert path.read_bytes() == b"1234"


def test_folder_that_cannot_be_flushed_is_no_error(path, monkeypatch):
    replace, fsync = os.replace, os.fsync
    renamed = []

    def flush(descriptor):
        if renamed:
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", lambda a, b: (renamed.append(b), replace(a, b)))
    monkeypatch.setattr(os, "fsync", flush)
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_two_writers_of_one_file_do_not_interfere(path):
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write(b"first")
        second.write(b"second")
        assert len(unfinished_paths(path.parent, "file")) == 2
        assert not unfinished_paths(path.parent, "other")
    assert path.read_bytes() == b"first" and not unfinished_paths(path.parent, "*")


def test_folder_is_created_and_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "new" / "file") as file:
            file.write(b"a")
    finally:
        os.umask(before)
    assert os.stat(tmp_path / "new" / "file").st_mode & 0o777 == 0o640


@pytest.mark.parametrize("before", [None, [], ["old"]], ids=["nothing", "empty", "full"])
def test_folder_replaces_the_old_folder(tmp_path, before):
    path = tmp_path / "parent" / "folder"
    if before is not None:
        path.mkdir(parents=True)
        for name in before:
            (path / name).write_bytes(b"old")
    with atomic_folder(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "new").write_bytes(b"new")
        assert path.exists() == (before is not None)
    assert (path / "inner" / "new").read_bytes() == b"new"
    assert os.listdir(path) == ["inner"] and os.listdir(path.parent) == ["folder"]


def test_failed_folder_leaves_the_old_one_and_no_other(tmp_path):
    (tmp_path / "folder" / "old").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "folder") as folder:
        (folder / "new").write_bytes(b"new")
        assert unfinished_paths(tmp_path, "folder") == [folder] and not unfinished_paths(
            tmp_path, "fol"
        )
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(tmp_path / "folder") == ["old"]


def test_files_of_a_folder_are_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.fstat(fd).st_size), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "inner").mkdir()
        for size, name in ((1, "a"), (2, "inner/b")):
            (folder / name).write_bytes(size * b"0")
    assert sorted(calls[:2]) == [1, 2] and calls[2] == "rename"


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    write_json({"a": 1}, path)
    with pytest.raises(TypeError):
        write_json({"a": object()}, path)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
