"""A preparation that is killed repeatedly writes the same files as an uninterrupted one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data_root import VERSION, contents

from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.data.synthetic import SyntheticOptions, generate
from fsdbev.utils.atomic_write import unfinished_paths
from fsdbev.utils.folder_lock import LOCK

TOOL = Path(__file__).parents[3] / "tools" / "prepare_nuscenes.py"
SCENES, FRAMES = 2, 6


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory):
    root = tmp_path_factory.mktemp("killed") / "data"
    sizes = {"image_size": (64, 36), "lidar_azimuths": 200, "frames": FRAMES}
    generate(root, SyntheticOptions(scenes_train=SCENES, scenes_val=1, **sizes))
    return root


def entries(output):
    """Counts the files, including unfinished ones."""
    return sum(len(files) for _, _, files in os.walk(output))


def start(dataroot, output, workers):
    """Starts the tool in a new process group."""
    command = (TOOL, "--dataroot", dataroot, "--version", VERSION, "--output", output)
    return subprocess.Popen(
        [sys.executable, *map(str, command), "--splits", "synth_train", "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill_at(process, output, count, delay, group):
    """Kills the process ``delay`` seconds after it has written ``count`` files.

    Returns whether it was still running. ``communicate`` returns when its workers have ended too,
    because they share its output.
    """
    while process.poll() is None and entries(output) < count:
        time.sleep(0.001)
    time.sleep(delay)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL) if group else process.kill()
    process.communicate(timeout=20)
    return running


@pytest.mark.slow
@pytest.mark.parametrize(("times", "workers"), [(2, 1), (8, 2)])
def test_killed_at_random_times(dataroot, tmp_path, times, workers):
    options = {"dataroot": dataroot, "version": VERSION, "splits": ["synth_train"]}
    prepare_nuscenes(**options, output=tmp_path / "uninterrupted")
    expected = contents(tmp_path / "uninterrupted")
    assert len(expected) == 1 + SCENES * FRAMES
    output, generator = tmp_path / "killed", random.Random(0)
    # From the first file, the lock, on. Increasing, because files of earlier runs are kept.
    counts = sorted(generator.uniform(1, SCENES * FRAMES) for _ in range(times))
    kills = 0
    for number, count in enumerate(counts):
        process = start(dataroot, output, workers)
        kills += kill_at(process, output, count, generator.uniform(0, 0.1), group=number % 2)
        unfinished = {
            *unfinished_paths(output, "*"),
            *unfinished_paths(output / "point_labels", "*"),
        }
        for path, content in contents(output).items():
            if output / path not in unfinished and path.name != LOCK:
                assert content == expected[path], path
    assert kills >= times // 2
    prepare_nuscenes(**options, output=output)
    assert contents(output) == expected
