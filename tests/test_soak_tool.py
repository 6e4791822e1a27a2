"""tools/soak.py: growth, memory of processes, a training."""

import csv
import json
import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soak
import torch
from PIL import Image
from soak import MIB

ENGINE = Path(__file__).parent / "engine"


@pytest.mark.parametrize(
    "memory, percent",
    [
        (lambda s: 1000 + 0 * s, 0.0),
        (lambda s: np.where(s > 19, 1000, 10 * s), 0.0),  # warm-up is excluded
        (lambda s: 1000 + 200 * (s % 50 == 49), 0.0),  # single peaks have no effect
        (lambda s: 1000 + s, 100 * 59 / 1029.5),
        (lambda s: 2000 - s, -100 * 59 / 1970.5),
    ],
)
def test_growth_is_that_of_the_medians_after_warm_up(memory, percent):
    seconds = np.arange(100.0)
    assert soak.growth(seconds, memory(seconds))["percent"] == pytest.approx(percent, abs=0.1)


def test_too_few_samples():
    with pytest.raises(ValueError, match="too few: at least 3 are needed"):
        soak.growth(np.arange(9.0), np.ones(9))


def test_memory_files_and_threads_have_limits():
    flat = {name: {"percent": 0.0} for name in ("memory", "files", "threads")}
    assert soak.too_much(flat, 1.0) == []
    grown = {**flat, "memory": {"percent": 1.1}, "rss": {"percent": 9.0}}
    assert soak.too_much(grown, 1.0) == ["memory"] and soak.too_much(grown, 1.2) == []
    assert soak.too_much({**flat, "files": {"percent": 0.1}}, 1.0) == ["files"]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_a_sample_includes_this_process_and_its_children():
    before = soak.take_sample(1.0, 2)
    tensor = torch.ones(64 * MIB, dtype=torch.uint8)  # malloc may reuse a gap for it
    memory = mmap.mmap(-1, 64 * MIB)
    memory.write(bytes([1]) * len(memory))
    allocate = f"b = b'x' * {32 * MIB}; print('ready', flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", allocate], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child, open(__file__):
        child.stdout.readline()
        after = soak.take_sample(1.0, 2)
        child.communicate(b"\n")
    grown = {name: after[name] - before[name] for name in after}
    assert grown["seconds"] == grown["iteration"] == 0 and after["threads"] >= 1
    assert grown["allocated"] > 0.9 * tensor.nbytes
    assert grown["main"] > 0.9 * len(memory) and grown["workers"] > 0.9 * 32 * MIB
    assert grown["files"] == 3  # the file and two pipes
    for name in ("memory", "rss", "uss"):
        assert grown[name] > 0.9 * (len(memory) + 32 * MIB)


def test_without_pss_the_unshared_memory_is_used(monkeypatch):
    monkeypatch.setattr(soak, "Path", lambda path: Path("/no") / path[1:])
    sample = soak.take_sample(0.0, 0)
    assert sample["memory"] == sample["uss"] > 10 * MIB


@pytest.mark.slow
def test_files_of_a_training(monkeypatch, tmp_path, capsys):
    seconds = iter(range(10**6))  # an iteration takes a second
    monkeypatch.setattr(soak, "time", type("Clock", (), {"monotonic": lambda: next(seconds)}))
    monkeypatch.syspath_prepend(str(ENGINE))
    out = tmp_path / "soak"
    options = ["--config-file", str(ENGINE / "toy_config.py"), "--out", str(out)]
    options += ["--minutes", "0.6", "--every", "2", "--max-growth", "1000"]
    options += ["train.checkpointer.period=12"]
    options += ["train.ema.start_updates=0", "dataloader.train.num_workers=1"]
    status = soak.main(options)
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert "36 iterations in 0.6 minutes, 18 samples" in printed.out and "memory" in printed.out
    content = json.loads((out / "soak.json").read_text())
    assert content["growth"]["memory"]["first"] > 0 and content["warm_up"] == soak.WARM_UP
    with open(out / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == list(range(2, 37, 2))
    assert all(0 < int(row["workers"]) < int(row["memory"]) for row in rows)
    assert Image.open(out / "soak.png").size[0] > 800
    assert len(list((out / "train").glob("model_*.pth"))) == 3  # of 12, 24 and 36 iterations
    assert soak.main(options) == 1
    assert "already exists: use another --out" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--minutes=0", "--every=0", "--max-growth=-1"])
def test_invalid_numbers(tmp_path, capsys, option):
    assert soak.main(["--out", str(tmp_path / "x"), option]) == 1
    assert "--minutes must be positive" in capsys.readouterr().err
