"""Lock of an output folder: against other processes, also dead ones, and without a file system that
has locks."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from fsdbev.utils import folder_lock
from fsdbev.utils.folder_lock import LOCK, locked_folder

#: Takes the lock and forks a child, as loaders do, which prints its id.
HOLD = """
import os, sys, time
from fsdbev.utils.folder_lock import locked_folder
with locked_folder(sys.argv[1], "-"):
    if not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of ``tmp_path / "out"``, and the id of its child."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        yield process
        os.kill(child, signal.SIGKILL)
        process.kill()


def test_another_process_is_named_and_its_lock_is_taken_over_when_it_is_dead(tmp_path, holder):
    folder = tmp_path / "out"
    message = (
        rf"out: process {holder.pid} on {socket.gethostname()} is writing there; wait for it, or "
        "stop it and run again, or choose another --out"
    )
    with (
        pytest.raises(BlockingIOError, match=message),
        locked_folder(folder, "choose another --out"),
    ):
        pass
    holder.kill()
    holder.wait()
    begin = time.monotonic()
    with locked_folder(folder, "-"):  # although the child lives
        assert (folder / LOCK).read_text() == f"process {os.getpid()} on {socket.gethostname()}"
    assert time.monotonic() - begin < 1
    assert not list(folder.iterdir())


def test_it_is_released_after_an_error(tmp_path):
    with pytest.raises(KeyError), locked_folder(tmp_path, "-"):
        raise KeyError
    with locked_folder(tmp_path, "-"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "out").write_text("")
    message = r"out: can't be written \(File exists\); choose another --out"
    with pytest.raises(PermissionError, match=message):
        with locked_folder(tmp_path / "out", "choose another --out"):
            pass


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.FileLock, "acquire", fail)
    with locked_folder(tmp_path, "-"):
        pass
    assert "has no file locks (" in caplog.text
