"""The benchmark of metrics: it compares before it times. How fast is for a reader to judge."""

import argparse
import importlib
import json
from pathlib import Path

import pytest
from nuscenes.nuscenes import NuScenes

from fsdbev.evaluation import check_boxes

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def part(monkeypatch):
    """Imports a module of the tool."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def measured(part, tmp_path, capsys):
    """Runs the benchmark with some options; returns the lines it printed and the file it wrote."""

    def run(*options):
        parser = argparse.ArgumentParser()
        part("eval").add_arguments(parser)
        path = tmp_path / "rows.json"
        options = [*options, "--folder", tmp_path, "--json", path]
        part("eval").run(parser.parse_args(list(map(str, options))))
        assert list(tmp_path.iterdir()) == [path]
        return capsys.readouterr().out.splitlines(), json.loads(path.read_text())

    return run


def test_table_and_file(measured):
    lines, content = measured("--samples", 3, "--boxes", 30, "--objects", 20, "--repeat", 1)
    assert "3 samples of 30 predicted and 20 true boxes" in lines
    rows = content["rows"]
    assert [row["side"] for row in rows] == ["ours, truth read", "ours, truth kept", "devkit"]
    for row, line in zip(rows, lines[-3:], strict=True):
        assert line.startswith(row["side"])
        assert row["ratio"] * row["milliseconds"] == pytest.approx(rows[-1]["milliseconds"])
        assert row["megabytes"] > 0
    assert content["settings"]["samples"] == 3 and "json" not in content["settings"]


def test_other_numbers_are_not_timed(part):
    benchmark = part("eval")
    same = {"eval_time": 1.0, "mean_ap": 0.5, "tp_errors": {"vel_err": float("nan")}}
    benchmark.check({"ours": same, "devkit": {**same, "eval_time": 2.0}})
    with pytest.raises(ValueError, match=r"\['ours'\] are not the devkit's.*nothing was timed"):
        benchmark.check({"ours": {**same, "mean_ap": 0.5 + 2e-9}, "devkit": same})


def test_nothing_to_measure(measured):
    with pytest.raises(ValueError, match="start at 1"):
        measured("--samples", 0)


def test_made_up_data(part, tmp_path):
    made_up = part("made_up_scenes")
    made_up.write_data_set(tmp_path, 43, 60)
    nusc = NuScenes(made_up.VERSION, str(tmp_path), verbose=False)
    assert len(nusc.scene) == 2 and len(nusc.sample) == 43
    assert all(len(sample["anns"]) == 60 for sample in nusc.sample)
    racks = [a for a in nusc.sample_annotation if a["category_name"].endswith("bicycle_rack")]
    assert len(racks) == 43
    results = made_up.detections(nusc, 70)
    assert list(results) == [sample["token"] for sample in nusc.sample]
    for token, boxes in results.items():
        check_boxes(token, boxes)
        scores = [box["detection_score"] for box in boxes]
        assert len(boxes) == 70 and scores == sorted(scores, reverse=True)
    names = {box["detection_name"] for boxes in results.values() for box in boxes}
    assert names == set(made_up.FREQUENCIES)
    assert results == made_up.detections(nusc, 70)
