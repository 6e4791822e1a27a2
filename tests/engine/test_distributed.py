"""Jobs of two processes of which one fails: the log has its rank, the job ends, no process is left.

Each job is the toy training with a fault in the environment variable FAULT (faulty_training.py).
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

from fsdbev.engine.distributed import DistributedTimeouts
from fsdbev.utils.processes import RANK_LOST

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / "tools" / "train_net.py"
#: Seconds of a collective; with fewer, the processes of a slow machine might not connect in time.
TIMEOUT = 10
COMMAND = (str(TOOL), "--config-file", str(HERE / "faulty_config.py"))
PYTHON, TORCHRUN = (sys.executable,), (sys.executable, "-m", "torch.distributed.run")


def start(folder, fault, *options, launcher=PYTHON, name="out", **environment):
    """Starts a process in ``folder`` and a new session; it writes to ``<name>.txt``."""
    overrides = [f"train.distributed.timeout_minutes={TIMEOUT / 60}"]
    if fault.startswith("kill"):  # no collective times out; the loader's workers must end as well
        overrides = ["train.distributed.timeout_minutes=2.0", "dataloader.train.num_workers=1"]
    inherited = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    settings = {"FAULT": fault, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", **environment}
    with open(folder / f"{name}.txt", "w") as out:
        return subprocess.Popen(
            [*launcher, *COMMAND, *options, *overrides],
            cwd=folder,
            env=inherited | {"CUDA_VISIBLE_DEVICES": ""} | settings,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start_ranks(folder, fault):
    """Starts both ranks as SLURM does, without a launcher that supervises them."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    shared["MASTER_PORT"] = str(free_port())
    return [
        start(folder, fault, name=f"out{rank}", RANK=rank, LOCAL_RANK=rank, **shared)
        for rank in ("0", "1")
    ]


def start_machines(folder, fault):
    """Starts two launchers with one process each, as on two machines."""
    options = ("--num-gpus", "1", "--num-machines", "2")
    url = ("--dist-url", f"tcp://127.0.0.1:{free_port()}")
    return [
        start(folder, fault, *options, *url, "--machine-rank", machine, name=f"out{machine}")
        for machine in ("0", "1")
    ]


def start_torchrun(folder, fault):
    launcher = (*TORCHRUN, "--nproc-per-node", "2", "--master-port", str(free_port()))
    return [start(folder, fault, launcher=launcher)]


def start_launcher(folder, fault, *options):
    return [start(folder, fault, "--num-gpus", "2", *options)]


def processes_with(fault):
    """Returns the ids of the running processes with this fault in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"FAULT={fault}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it has ended or belongs to another user
            continue
    return found


def assert_none_left(fault):
    """Waits until no process of a job is left; after a minute, kills them and fails."""
    deadline = time.monotonic() + 60
    while left := processes_with(fault):
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"{len(left)} processes are left")
        time.sleep(0.1)


def output(folder):
    return "\n".join(path.read_text() for path in folder.glob("out*.txt"))


def log_of(folder, rank):
    return (folder / "output" / ("log.txt.rank1" if rank else "log.txt")).read_text()


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
MISSING = r"Ranks? 1 failed to pass monitoredBarrier"
#: Message of each launcher with the rank that was killed.
KILLED_MESSAGE = {
    start_launcher: r"The job ends: rank 1 \(pid \d+\) was killed by SIGKILL",
    start_machines: r"The job ends: rank 1 \(pid \d+\) was killed by SIGKILL",
    start_torchrun: r"rank +: 1 [\s\S]*exitcode +: -9 ",
}


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("starts", [start_launcher, start_machines, start_torchrun])
def test_a_killed_process_ends_the_job_and_is_named(tmp_path, starts):
    """The workers of its loader end too, which have separate process groups."""
    fault = "kill@train:3:1"
    job = starts(tmp_path, fault)
    status = [process.wait(timeout=300) for process in job]
    assert status == [1 if starts is start_torchrun else RANK_LOST] * len(job)
    assert re.search(KILLED_MESSAGE[starts], output(tmp_path)), output(tmp_path)
    assert_none_left(fault)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["load:3", "evaluate:1"])
def test_a_stuck_process_is_named_and_logs_its_threads(tmp_path, place):
    job = start_ranks(tmp_path, f"sleep1000@{place}:1")
    try:
        assert job[0].wait(timeout=300) == RANK_LOST
        assert re.search(MISSING, log_of(tmp_path, 0)), output(tmp_path)
        stuck = log_of(tmp_path, 1)
        assert f"Timeout (0:00:{TIMEOUT})!" in stuck and "in fail_at" in stuck, stuck
    finally:
        for process in job:
            process.kill()
            process.wait()


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("starts", [start_launcher, start_machines, start_torchrun])
def test_a_stuck_process_ends_the_job(tmp_path, starts):
    fault = "sleep1000@train:3:1"
    job = starts(tmp_path, fault)
    status = [process.wait(timeout=300) for process in job]
    assert status == {start_machines: [RANK_LOST, 1], start_torchrun: [1]}.get(starts, [RANK_LOST])
    assert re.search(MISSING, log_of(tmp_path, 0)), output(tmp_path)
    assert "in fail_at" in log_of(tmp_path, 1)
    assert_none_left(fault)


@pytest.mark.slow
def test_rank_0_may_work_alone_for_longer_than_a_collective(tmp_path):
    sleep = f"sleep{TIMEOUT + 3}"
    fault = f"{sleep}@save:0:0,{sleep}@score:0:0"
    (job,) = start_launcher(tmp_path, fault, "train.max_iter=2")
    assert job.wait(timeout=300) == 0, output(tmp_path)
    assert (tmp_path / "output" / "evaluation.json").exists()
    assert "Timeout" not in log_of(tmp_path, 0) + log_of(tmp_path, 1)


@pytest.mark.slow
@needs_proc
def test_the_job_ends_with_the_error_of_one_process(tmp_path):
    fault = "raise@evaluate:1:1"
    (job,) = start_launcher(tmp_path, fault)
    assert job.wait(timeout=300) == 1
    log = output(tmp_path)
    assert "ValueError: broken on purpose" in log
    assert re.search(r"The job ends: rank 1 \(pid \d+\) failed with the error above", log)
    assert_none_left(fault)


def test_a_timeout_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="train.distributed.timeout_minutes is 0"):
        DistributedTimeouts(timeout_minutes=0)
