"""A training that is killed while it saves loses no checkpoint and leaves no corrupt one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOOP = Path(__file__).with_name("kill_loop.py")


@pytest.mark.parametrize("times", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_nothing_is_lost_or_corrupt_after_kills(tmp_path, times):
    command = [sys.executable, str(LOOP), str(tmp_path), str(times), "1"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    count = json.loads(done.stdout.splitlines()[-1])
    assert (count["killed"], count["lost"], count["corrupt"]) == (times, 0, 0), done.stderr
    assert count["while_saving"] >= times // 4 and count["saved"] > times
