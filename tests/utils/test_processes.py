"""A function call in a subprocess: result, errors, signals, and the end of the caller."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from fsdbev.utils.processes import run_in_subprocess

pytestmark = pytest.mark.usefixtures("no_process_left")
ROOT = Path(__file__).parents[2]


def process_ids(number):
    return os.getpid(), os.getppid(), number


def call_in_daemon():
    """Calls from a daemonic process, which may not start processes."""
    multiprocessing.current_process().daemon = True
    return run_in_subprocess(process_ids, 5)


def fail(error):
    raise error


def kill_me():
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_and_write(path):
    time.sleep(10)
    path.touch()


def test_it_runs_in_another_process():
    pid, parent, number = run_in_subprocess(process_ids, number=5)
    assert parent == os.getpid() != pid and number == 5


def test_it_computes_in_one_thread():
    """A fork that opened a large index waited forever for OpenMP threads of its parent."""
    assert run_in_subprocess(torch.get_num_threads) == 1


def test_a_daemonic_process_runs_the_function_itself():
    pid, parent, number = run_in_subprocess(call_in_daemon)
    assert parent == os.getpid() != pid and number == 5


def test_its_error_is_raised_with_its_traceback():
    with pytest.raises(FileNotFoundError, match="no such table") as info:
        run_in_subprocess(fail, FileNotFoundError(2, "no such table"))
    assert info.value.errno == 2 and "in fail" in str(info.value.__cause__)


def test_a_killed_subprocess_is_an_error():
    with pytest.raises(ChildProcessError, match="of kill_me was killed, perhaps .*memory"):
        run_in_subprocess(kill_me)


def test_a_signal_that_the_caller_handles_ends_it_at_once(tmp_path):
    """A training receives such a signal during an evaluation, for example."""

    def stop(number, frame):
        raise SystemExit(75)

    previous = signal.signal(signal.SIGTERM, stop)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    begin = time.monotonic()
    try:
        with pytest.raises(SystemExit):
            run_in_subprocess(sleep_and_write, tmp_path / "done")
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert time.monotonic() - begin < 8 and not (tmp_path / "done").exists()


def script(body):
    """Starts a Python process with these lines in a new process group."""
    code = f"import os, signal, time\nfrom fsdbev.utils.processes import run_in_subprocess\n{body}"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are POSIX'")
def test_signals_to_the_group_are_the_callers_to_handle():
    body = (
        "signal.signal(signal.SIGTERM, lambda *_: print('SIGTERM', flush=True))\n"
        "def send():\n"
        "    os.killpg(0, signal.SIGTERM)\n"
        "    return 'done'\n"
        "print(run_in_subprocess(send), flush=True)\n"
    )
    with script(body) as caller:
        output, _ = caller.communicate(timeout=60)
    assert (caller.returncode, output) == (0, b"SIGTERM\ndone\n")


def test_it_ends_with_its_caller():
    body = (
        "def count():\n"
        "    for number in range(1000):\n"
        "        print(number, flush=True)\n"
        "        time.sleep(0.1)\n"
        "run_in_subprocess(count)\n"
    )
    with script(body) as caller:
        assert caller.stdout.readline() == b"0\n"
        caller.kill()
        output, _ = caller.communicate(timeout=15)
    assert output.count(b"\n") < 900
