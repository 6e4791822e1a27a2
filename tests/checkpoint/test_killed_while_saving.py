"""A training that is killed while it saves loses nothing, and nothing that is read is corrupt."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOOP = Path(__file__).with_name("kill_loop.py")
TIMES = 100


def test_nothing_is_lost_or_corrupt_after_100_kills(tmp_path):
    command = [sys.executable, str(LOOP), str(tmp_path), str(TIMES), "1"]
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
    assert (count["killed"], count["lost"], count["corrupt"]) == (TIMES, 0, 0), done.stderr
    assert count["while_saving"] >= TIMES // 4 and count["saved"] > TIMES
