"""tools/soak.py: what it counts as growth, what it reads of processes, and a training under it."""

import csv
import importlib
import json
import mmap
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
MIB = 2**20


@pytest.fixture
def part(monkeypatch):
    """Imports the tool, or a module of it."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module


@pytest.fixture
def samples(part):
    """A hundred samples, one a second, of a memory that is given by the second."""
    make = part("soaking.growth").Sample

    def samples(memory, count=100):
        one = make(0.0, 0, 0, 1, 1, 1, None, None, files=9, threads=3)
        return [replace(one, seconds=float(s), iteration=s, memory=memory(s)) for s in range(count)]

    return samples


@pytest.mark.parametrize(
    "memory, percent",
    [
        (lambda s: 1000 * MIB, 0.0),
        (lambda s: (1000 if s > 19 else 10 * s) * MIB, 0.0),  # warm-up does not count
        (lambda s: (1000 + 200 * (s % 50 == 49)) * MIB, 0.0),  # nor do single peaks
        (lambda s: (1000 + s) * MIB, 100 * 59 / 1029.5),
        (lambda s: (2000 - s) * MIB, -100 * 59 / 1970.5),
    ],
)
def test_growth_is_that_of_the_medians_after_warm_up(part, samples, memory, percent):
    found = part("soaking.growth").growth(samples(memory), "memory", warm_up=0.2)
    assert found.percent == pytest.approx(percent, abs=0.1)


def test_too_few_samples_say_nothing(part, samples):
    with pytest.raises(ValueError, match="say nothing: at least 3 are needed"):
        part("soaking.growth").growth(samples(lambda s: 1, count=9), "memory", warm_up=0.2)


def test_what_is_not_told_does_not_grow(part, samples):
    assert part("soaking.growth").growth(samples(lambda s: 1), "uss", warm_up=0.2) is None


def test_memory_files_and_threads_have_limits(part):
    too_much = part("soak").too_much
    flat = {name: {"percent": 0.0} for name in ("memory", "files", "threads")}
    assert too_much(flat, 1.0) == []
    grown = {**flat, "memory": {"percent": 1.1}, "rss": {"percent": 9.0}}
    assert too_much(grown, 1.0) == ["memory"]
    assert too_much({**flat, "files": {"percent": 0.1}}, 1.0) == ["files"]
    assert too_much({"memory": {"percent": 0.9}}, 1.0) == []


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_memory_that_a_process_takes_is_seen(part):
    usage = part("soaking.processes").usage
    allocated = part("soaking.processes").allocated
    before, asked = usage(os.getpid()), allocated()
    tensor = torch.ones(64 * MIB, dtype=torch.uint8)  # it may lie where malloc has a gap
    memory = mmap.mmap(-1, 64 * MIB)
    memory.write(bytes([1]) * len(memory))
    file = open(__file__)
    after = usage(os.getpid())
    file.close()
    assert asked is None or allocated() - asked > 0.9 * tensor.nbytes
    for name in ("rss", "own", "uss"):
        assert getattr(after, name) - getattr(before, name) > 0.9 * len(memory)
    assert after.files == before.files + 1 and after.threads >= 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no ps")
def test_elsewhere_ps_tells_the_resident_memory(part, monkeypatch, tmp_path):
    processes = part("soaking.processes")
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    found = processes.usage(os.getpid())
    assert found.rss > 50 * MIB and found.own is found.files is None
    assert processes.total([found, found], "rss") == 2 * found.rss
    assert processes.total([found], "own") is None


def test_a_training_under_it_leaves_numbers_and_a_picture(part, monkeypatch, tmp_path, capsys):
    soak = part("soak")
    seconds = iter(range(10**6))  # an iteration takes a second
    monkeypatch.setattr(soak, "time", type("Clock", (), {"monotonic": lambda: next(seconds)}))
    monkeypatch.syspath_prepend(str(ROOT / "tests/engine"))
    out = tmp_path / "soak"
    options = ["--config-file", str(ROOT / "tests/engine/toy_config.py"), "--out", str(out)]
    options += ["--minutes", "1", "--every", "3", "--max-growth", "1000", "train.eval_period=10"]
    options += ["train.checkpointer.period=20"]
    options += ["train.ema.start_updates=0", "dataloader.train.num_workers=1"]
    status = soak.main(options)
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "60 iterations in 1.0 minutes, 20 samples" in said.out and "memory" in said.out
    content = json.loads((out / "soak.json").read_text())
    assert content["growth"]["memory"]["first"] > 0 and content["warm_up"] == soak.WARM_UP
    with open(out / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == list(range(3, 61, 3))
    assert all(0 < int(row["workers"]) < int(row["memory"]) for row in rows)
    assert Image.open(out / "soak.png").size[0] > 800
    assert len(list((out / "train").glob("model_*.pth"))) == 3  # of 20, 40 and 60 iterations
    assert soak.main(options) == 1
    assert "is there already: take another --out" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--minutes=0", "--every=0", "--max-growth=-1"])
def test_numbers_that_make_no_sense(part, tmp_path, capsys, option):
    assert part("soak").main(["--out", str(tmp_path / "x"), option]) == 1
    assert "--minutes are positive" in capsys.readouterr().err
