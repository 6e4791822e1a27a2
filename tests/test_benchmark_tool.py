"""The benchmark tool: it runs, and what it counts adds up. How fast is for a reader to judge."""

import runpy
import sys
from pathlib import Path

import pytest

from fsdbev.layers import EXTENSION_BUILT

TOOL = Path(__file__).parents[1] / "tools/benchmark.py"


@pytest.fixture
def benchmark(monkeypatch, capsys):
    """Runs the tool; returns what it printed."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    main = runpy.run_path(str(TOOL))["main"]

    def run(*arguments):
        main(list(map(str, arguments)))
        return capsys.readouterr().out

    return run


def test_data(benchmark, tmp_path):
    sizes = ("--rows", 50, "--boxes", 5, "--points", 640, "--labels", 3, "--start", "fork")
    lines = benchmark("data", *sizes, "--folder", tmp_path).splitlines()
    table = {line[:58].strip(): float(line[58:].split()[0].replace(",", "")) for line in lines}
    assert table["index: samples"] == 50 and table["index: boxes"] == 5 * 50
    assert table["labels: samples"] == 3 and 100 < table["labels: labelled pixels a sample"] < 1500
    assert all(value >= 0 for name, value in table.items() if "added" not in name)
    assert ("worker (fork): private memory before" in table) == Path("/proc/self").exists()
    assert not list(tmp_path.iterdir())


def test_nothing_to_measure(benchmark, capsys):
    with pytest.raises(SystemExit):
        benchmark("data", "--rows", 0)
    assert "start at 1" in capsys.readouterr().err


@pytest.mark.skipif(not EXTENSION_BUILT, reason="the compiled operators are not built")
def test_operators(benchmark):
    small = ("--views", 1, "--bins", 4, "--channels", 2, "--image-size", 32, 64, "--grid", 8)
    lines = benchmark("ops", *small, "--repeat", 1, "--threads", 1, "--kept", 0.5).splitlines()
    assert [line.split()[2] for line in lines] == ["pass", "forward", "backward"]
