"""Two processes of which one fails: the other names it, the job ends, and nothing stays.

Each job is the toy training with the fault that FAULT says (faulty_training.py).
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsdbev.engine.stopping import RANK_LOST

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / "tools" / "train_net.py"
COMMAND = (sys.executable, str(TOOL), "--config-file", str(HERE / "faulty_config.py"))
#: Seconds; a slow machine may hold a process for some.
IMPATIENT = ("train.distributed.lost_after=6", "train.distributed.stuck_after=3")


def environment(fault, **more):
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    return env | {
        "FAULT": fault,
        "PYTHONPATH": str(HERE),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **more,
    }


def start(folder, *arguments, **env):
    """A process in ``folder`` and a session of its own; what it writes goes to ``out.txt``."""
    with open(folder / f"out{env.get('RANK', '')}.txt", "w") as out:
        return subprocess.Popen(
            [*COMMAND, *arguments, *IMPATIENT],
            cwd=folder,
            env=environment(**env),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def start_each(folder, fault):
    """Two processes as SLURM starts them: nobody looks after both."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return [
        start(folder, fault=fault, RANK=rank, LOCAL_RANK=rank, MASTER_PORT=port, **shared)
        for rank in ("0", "1")
    ]


def processes_with(fault):
    """Ids of the running processes that have this fault and folder in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"FAULT={fault}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it has ended, or is not ours
            continue
    return found


def none_left(fault):
    """Waits until no process of a job is left; those that stay are killed and an error."""
    deadline = time.monotonic() + 60
    while left := processes_with(fault):
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"{len(left)} processes stay")
        time.sleep(0.1)


def log_of(folder, rank):
    return (folder / "output" / ("log.txt.rank1" if rank else "log.txt")).read_text()


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")


@needs_proc
@pytest.mark.parametrize("fault, lost", [("kill@train:3:0", 0), ("stop@train:3:1", 1)])
def test_the_other_process_names_the_lost_one_and_ends(tmp_path, fault, lost):
    """Killed: the one whose store the heartbeats go through. Stopped: no connection is closed."""
    job = start_each(tmp_path, fault)
    assert job[1 - lost].wait(timeout=300) == RANK_LOST
    log = log_of(tmp_path, 1 - lost)
    named = rf"ERROR: rank {lost} \(host \S+, pid {job[lost].pid}\), last .* no sign of life"
    assert re.search(named, log), log
    job[lost].kill()
    job[lost].wait()
    none_left(fault)


@needs_proc
def test_launcher_says_who_was_killed_and_leaves_no_process(tmp_path):
    """Workers of the loader too, which are in process groups of their own."""
    fault = "kill@train:3:1"
    job = start(tmp_path, "--num-gpus", "2", "dataloader.train.num_workers=1", fault=fault)
    assert job.wait(timeout=300) == RANK_LOST
    said = (tmp_path / "out.txt").read_text()
    assert re.search(r"The job ends: rank 1 \(pid \d+\) was killed by SIGKILL", said), said
    assert "rank 1 (host" in log_of(tmp_path, 0)
    none_left(fault)


@needs_proc
def test_error_of_one_process_is_what_the_job_ends_with(tmp_path):
    fault = "raise@evaluate:1:1"
    job = start(tmp_path, "--num-gpus", "2", fault=fault)
    assert job.wait(timeout=300) == 1
    said = (tmp_path / "out.txt").read_text()
    assert "ValueError: broken on purpose" in said
    assert re.search(r"The job ends: rank 1 \(pid \d+\) failed with the error above", said)
    assert re.search(r"rank 1 .* has ended: ValueError: broken on purpose", log_of(tmp_path, 0))
    none_left(fault)


def test_stuck_process_is_named_and_the_job_goes_on_when_it_does(tmp_path):
    job = start(tmp_path, "--num-gpus", "2", fault="sleep10@load:3:1")
    assert job.wait(timeout=300) == 0, (tmp_path / "out.txt").read_text()
    waiting = r"WARNING: This process \(in the backward pass .*\) waits for rank 1 .* loading data"
    assert re.search(waiting, log_of(tmp_path, 0))
    stuck = log_of(tmp_path, 1)
    assert "This process has been loading data" in stuck and "time.sleep" in stuck
    assert (tmp_path / "output" / "model_final.pth").exists()
