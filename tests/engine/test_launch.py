"""The launcher of several processes: exit status, signals."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsdbev.d2.utils import comm
from fsdbev.engine.launch import _forwarded_signals, launch
from fsdbev.utils.processes import PREEMPTED

JOB = argparse.Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")


def stop_one_later(args):
    if comm.get_rank() == 0:
        time.sleep(3)
    Path(args.folder, f"{comm.get_rank()}").touch()
    raise SystemExit(PREEMPTED)


@pytest.mark.slow
def test_preempted_processes_end_the_job_with_their_status(tmp_path, monkeypatch):
    """The launcher waits until the last process has ended."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit) as stopped:
        launch(stop_one_later, argparse.Namespace(**vars(JOB), folder=str(tmp_path)))
    assert stopped.value.code == PREEMPTED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def sleep(args):
    Path(args.folder, f"{os.getpid()}").touch()
    time.sleep(300)


@pytest.mark.parametrize("when", ["while they start", "while they run"])
def test_signals_to_a_launcher_end_it_and_all_its_processes(tmp_path, when):
    """Two signals in a row, before a training could handle them."""
    code = (
        "import argparse, test_launch as t; from fsdbev.engine.launch import launch; print('up', "
        f"flush=True); job = argparse.Namespace(**vars(t.JOB), folder={str(tmp_path)!r}); "
        "launch(t.sleep, job)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    launcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env)
    assert launcher.stdout.readline() == b"up\n"
    deadline = time.monotonic() + 120
    while when == "while they run" and len(list(tmp_path.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for _ in range(2):
        if launcher.poll() is None:
            launcher.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert launcher.wait(timeout=120) == -signal.SIGTERM
    launcher.stdout.close()
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


def test_signal_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with _forwarded_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
