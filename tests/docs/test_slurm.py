"""docs/examples/train.sbatch with fake SLURM commands.

The job trains in two processes and queues itself again until the training is done.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "engine"

SRUN = """#!/usr/bin/env bash
# Starts the job's tasks; sends USR1 to all of them, as SLURM does, once the file USR1_AT exists.
shift  # --kill-on-bad-exit
for ((id = 0; id < SLURM_NTASKS; id++)); do
    SLURM_PROCID=$id SLURM_LOCALID=$id "$@" &
    tasks+=($!)
done
if [ -n "${USR1_AT:-}" ]; then
    for ((i = 0; i < 1200; i++)); do
        if [ -e "$USR1_AT" ]; then kill -USR1 "${tasks[@]}"; break; fi
        sleep 0.05
    done
fi
status=0
for task in "${tasks[@]}"; do wait "$task" || status=$(($? > status ? $? : status)); done
exit "$status"
"""
SCONTROL = """#!/usr/bin/env bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> scontrol.log; fi
"""


@pytest.fixture
def submit(tmp_path):
    """Function: runs the script in a project folder as SLURM does."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(TOY),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node0",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
    }

    def submit(*overrides, **variables):
        script = str(ROOT / "docs" / "examples" / "train.sbatch")
        return subprocess.run(
            ["bash", script, str(TOY / "toy_config.py"), "output/toy", *overrides],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return submit


@pytest.mark.slow
def test_it_is_queued_again_until_the_training_is_done(submit, tmp_path):
    output = tmp_path / "output" / "toy"
    options = ("train.max_iter=6000", "train.eval_period=0", "train.checkpointer.period=1")
    stopped = submit(*options, USR1_AT=str(output / "last_checkpoint"))
    assert stopped.returncode == 0, stopped.stderr
    assert (tmp_path / "scontrol.log").read_text() == f"requeue {os.getpid()}\n"
    reached = int((output / "last_checkpoint").read_text()[len("model_") : -len(".pth")])
    assert reached < 5999 and not (output / "model_final.pth").exists()

    done = submit(f"train.max_iter={reached + 3}", "train.eval_period=0")
    assert done.returncode == 0, done.stderr
    assert (output / "model_final.pth").is_file()
    assert (tmp_path / "scontrol.log").read_text().count("requeue") == 1
    assert f"Starting training from iteration {reached + 1}" in (output / "log.txt").read_text()


def test_a_failing_training_fails_and_is_not_queued_again(submit, tmp_path):
    failed = submit("train.max_itre=6", SLURM_NTASKS="1")
    assert failed.returncode != 0 and "train.max_iter" in failed.stderr
    assert not (tmp_path / "scontrol.log").exists()
