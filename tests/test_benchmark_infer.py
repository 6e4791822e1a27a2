"""The benchmark of inference: it runs, checks before it reports, and what it counts adds up."""

import argparse
import importlib
import json
import mmap
import sys
from pathlib import Path

import pytest
import torch

from fsdbev.d2.structures import Instances
from fsdbev.structures import Boxes3D

ROOT = Path(__file__).parents[1]
SMALL = ["--config-file", str(ROOT / "configs/fsdbev_tiny_synthetic.py"), "--cameras", "2"]
SMALL += ["--frames", "2", "--threads", "1", "dataloader.image_size=[32,64]", "model.grid.cell=7.0"]


@pytest.fixture
def infer(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "benchmarks", raising=False)
    module = importlib.import_module("benchmarks.infer")
    for kind in ("cpu", "cuda"):
        monkeypatch.setitem(sys.modules["benchmarks.machine"]._MATRIX, kind, 64)
    return module


@pytest.fixture
def run(infer):
    threads = torch.get_num_threads()

    def run(*arguments):
        parser = argparse.ArgumentParser()
        infer.add_arguments(parser)
        infer.run(parser.parse_args([*SMALL, *map(str, arguments)]))

    yield run
    torch.set_num_threads(threads)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rows(run, tmp_path, capsys, precision):
    run("--precision", precision, "--json", tmp_path / "rows.json")
    content = json.loads((tmp_path / "rows.json").read_text())
    every, stream = content["rows"]
    assert (every["side"], stream["side"]) == ("all frames", "stream")
    assert every["ratio"] == every["cpu_ratio"] == 1
    assert stream["ratio"] == pytest.approx(every["milliseconds"] / stream["milliseconds"])
    assert 1.1 < every["gmacs"] / stream["gmacs"] < 2
    peak = float(content["settings"]["matrix product"].split()[0])
    for row in (every, stream):
        assert row["gmacs_per_second"] == pytest.approx(1e3 * row["gmacs"] / row["milliseconds"])
        assert row["peak_share"] == pytest.approx(row["gmacs_per_second"] / peak, rel=0.1)
        assert row["megabytes"] is None or row["megabytes"] > 50
    settings = content["settings"]
    assert settings["precision"] == precision and settings["channels last"] is True
    assert settings["sample"] == "2 frames of 2 cameras at 32x64"
    assert settings["same boxes"] == "100.00 %"
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[-2:]] == ["all", "stream"]


def test_a_stream_that_is_wrong_is_not_timed(run, infer, monkeypatch, tmp_path):
    class Wrong(infer.StreamingPredictor):
        """Looks at the first sample, and then never again."""

        def _find_frame(self, sample, t, new):
            first = vars(self).setdefault("first", {})
            if t not in first:
                first[t] = super()._find_frame(sample, t, new)
            return first[t]

    monkeypatch.setattr(infer, "StreamingPredictor", Wrong)
    with pytest.raises(ValueError, match="sample 1: .* the times mean nothing"):
        run("--json", tmp_path / "rows.json")
    assert not (tmp_path / "rows.json").exists()


def boxes(*rows):
    """x, score, class of each."""
    found = Instances((32, 64))
    tensor = torch.zeros(len(rows), 9)
    tensor[:, 0] = torch.tensor([row[0] for row in rows])
    found.pred_boxes_3d = Boxes3D(tensor)
    found.scores = torch.tensor([row[1] for row in rows])
    found.pred_classes = torch.tensor([row[2] for row in rows])
    return found


@pytest.mark.parametrize(
    ("others", "share"),
    [
        ([(2, 0.4, 1), (1, 0.5, 0)], 1),  # in another order
        ([(1.001, 0.5001, 0), (2, 0.4, 1)], 1),
        ([(1, 0.5, 0), (2.1, 0.4, 1)], 0.5),
        ([(1, 0.5, 0), (2, 0.41, 1)], 0.5),
        ([(1, 0.5, 2), (2, 0.4, 1)], 0.5),
        ([(1, 0.5, 0)], 2 / 3),
        ([], 0),
    ],
)
def test_share_of_same_boxes(infer, others, share):
    ours = boxes((1, 0.5, 0), (2, 0.4, 1))
    theirs = boxes(*others)
    assert infer.share_of_same_boxes(ours, theirs) == pytest.approx(share)
    assert infer.share_of_same_boxes(theirs, ours) == pytest.approx(share)


def test_no_boxes_at_all_are_the_same(infer):
    assert infer.share_of_same_boxes(boxes(), boxes()) == 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_peak_memory_starts_anew(infer):
    device, size = torch.device("cpu"), 2**27
    peaks = []
    for _ in range(2):
        with mmap.mmap(-1, size) as pages:  # malloc could give memory that the process has already
            pages[:] = bytes(1) * size
            peaks.append(infer.peak_memory(device))
        infer.reset_peak_memory(device)
        peaks.append(infer.peak_memory(device))
    high, low, high_again, low_again = peaks
    assert min(high, high_again) - max(low, low_again) > 100e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--frames", 0), "--frames starts at 1, got 0"),
        (("--threads", 0), "--threads starts at 1"),
        (("--json", "no/such/folder/rows.json"), "no folder"),
        (("model.nothing=1",), "unknown key 'model.nothing'"),
    ],
)
def test_arguments_that_make_no_sense(run, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(run):
    with pytest.raises(ValueError, match="finds no GPU"):
        run("--device", "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda(run, capsys):
    run("--device", "cuda", "--precision", "bfloat16")
    assert "stream" in capsys.readouterr().out
