"""A preparation that is killed over and over ends in the same files as one that is left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.data.synthetic import SyntheticOptions, generate
from fsdbev.utils.atomic_write import leftovers

VERSION = "v1.0-synth"
TOOL = Path(__file__).parents[3] / "tools" / "prepare_nuscenes.py"
SCENES, FRAMES = 2, 6


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory):
    root = tmp_path_factory.mktemp("killed") / "data"
    sizes = {"image_size": (64, 36), "lidar_azimuths": 200, "frames": FRAMES}
    generate(root, SyntheticOptions(scenes_train=SCENES, scenes_val=1, **sizes))
    return root


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def entries(output):
    """Files there, those being written too."""
    return sum(len(files) for _, _, files in os.walk(output))


def start(dataroot, output, workers):
    """The tool, in a process group of its own."""
    command = (TOOL, "--dataroot", dataroot, "--version", VERSION, "--output", output)
    return subprocess.Popen(
        [sys.executable, *map(str, command), "--splits", "synth_train", "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill_at(process, output, count, delay, group):
    """Kill -9 once ``count`` files are there and ``delay`` seconds have passed; whether it was
    still at work. What it started ends too: then its output does."""
    while process.poll() is None and entries(output) < count:
        time.sleep(0.001)
    time.sleep(delay)
    at_work = process.poll() is None
    if at_work:
        os.killpg(process.pid, signal.SIGKILL) if group else process.kill()
    process.communicate(timeout=20)
    return at_work


@pytest.mark.parametrize(("times", "workers"), [(2, 1), pytest.param(8, 2, marks=pytest.mark.slow)])
def test_killed_at_random_moments(dataroot, tmp_path, times, workers):
    options = {"dataroot": dataroot, "version": VERSION, "splits": ["synth_train"]}
    prepare_nuscenes(**options, output=tmp_path / "calm")
    expected = contents(tmp_path / "calm")
    assert len(expected) == 1 + SCENES * FRAMES
    output, generator = tmp_path / "killed", random.Random(0)
    # From the first file (the lock) on; each later than the one before, which leaves its files.
    counts = sorted(generator.uniform(1, SCENES * FRAMES) for _ in range(times))
    kills = 0
    for number, count in enumerate(counts):
        process = start(dataroot, output, workers)
        kills += kill_at(process, output, count, generator.uniform(0, 0.1), group=number % 2)
        unfinished = {*leftovers(output, "*"), *leftovers(output / "point_labels", "*")}
        for path, content in contents(output).items():
            if output / path not in unfinished and path.name != ".prepare.lock":
                assert content == expected[path], path
    assert kills >= times // 2
    prepare_nuscenes(**options, output=output)
    assert contents(output) == expected
