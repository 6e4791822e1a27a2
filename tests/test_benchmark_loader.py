"""The benchmark of the loader: it compares before it prints. How fast is for a reader to judge."""

import argparse
import importlib
import json
from pathlib import Path

import pytest
import torch

from fsdbev.data.image_file import simplejpeg

TOOLS = Path(__file__).parents[1] / "tools"
SMALL = ("--image-size", 64, 176, "--source-size", 320, 180, "--boxes", 6, "--points", 640)
STAGES = ["decode", "augment", "label maps", "heatmaps", "boxes", "normalise", "total"]


@pytest.fixture
def part(monkeypatch):
    """Imports a module of the tool."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def measured(part, tmp_path, capsys):
    """Runs the benchmark with some options; returns the lines it printed and the file it wrote."""
    threads = torch.get_num_threads()

    def run(*options):
        parser = argparse.ArgumentParser()
        part("loader").add_arguments(parser)
        path = tmp_path / "rows.json"
        options = [*SMALL, *options, "--folder", tmp_path, "--json", path]
        part("loader").run(parser.parse_args(list(map(str, options))))
        content = json.loads(path.read_text())
        path.unlink()
        return capsys.readouterr().out.splitlines(), content

    yield run
    torch.set_num_threads(threads)


def test_tables_and_file(measured, tmp_path):
    lines, content = measured("--samples", 2, "--workers", 0, 1)
    stages = {row["stage"]: row for row in content["stages"]}
    assert list(stages) == STAGES
    assert stages["boxes"]["reference_milliseconds"] is stages["normalise"]["milliseconds"] is None
    for name in ("milliseconds", "reference_milliseconds"):
        parts = [row[name] or 0 for stage, row in stages.items() if stage != "total"]
        assert 0 < sum(parts) and min(row[name] or 0 for row in stages.values()) >= 0
    total = stages["total"]
    assert total["ratio"] * total["milliseconds"] == pytest.approx(total["reference_milliseconds"])
    table = [line for line in lines if line.startswith(tuple(STAGES)) and line[-1] in "-0123456789"]
    assert len(table) == len(STAGES)
    ways = [(row["step"], row["way"]) for row in content["images"]]
    assert ("decode", "simplejpeg (ours)") in ways or simplejpeg is None
    assert ("augment", "resample_image (ours)") in ways
    near = {"Pillow, box of the crop"}
    assert near <= {way for _, way in ways}
    assert all(row["difference"] == 0 for row in content["images"] if row["way"] not in near)
    assert all(row["difference"] <= 1 for row in content["images"])
    assert set(content["samples_per_second"]) == {"0", "1"}
    assert all(rate > 0 for rate in content["samples_per_second"].values())
    assert content["settings"]["samples"] == 2
    assert set(content["peak_megabytes"]) in (set(), {"ours", "reference"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["images", "gt_depth", "gt_foreground", "gt_heatmap"])
def test_stops_where_the_sides_do_not_agree(measured, part, monkeypatch, capsys, name):
    loader = part("loader")
    load = loader.load

    def wrong(*arguments):
        loaded = load(*arguments)
        return {**loaded, name: loaded[name].roll(1, dims=-1)}

    monkeypatch.setattr(loader, "load", wrong)
    with pytest.raises(ValueError, match=f"do not agree in .*{name}"):
        measured("--samples", 1)
    assert "total" not in capsys.readouterr().out


def test_photos_of_ones_own(measured, part, tmp_path):
    photos = tmp_path / "photos"
    for number in range(6):
        part("photos").write_photo(photos / f"sub/{number}.jpg", (number,), 320, 180)
    lines, _ = measured("--samples", 1, "--workers", "--photos", photos)
    size = sum(path.stat().st_size for path in photos.rglob("*.jpg")) / 6e3
    assert f"JPEG files: {size:.0f} kB" in lines
    (photos / "sub/0.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="less than 6"):
        measured("--photos", photos)


def test_photos_are_as_large_as_nuscenes(part, tmp_path):
    part("photos").write_photo(tmp_path / "photo.jpg", (0,), 1600, 900)
    assert 120e3 < (tmp_path / "photo.jpg").stat().st_size < 260e3


@pytest.mark.parametrize(
    "options", [("--samples", 0), ("--boxes", 0), ("--points", 0), ("--workers", -1)]
)
def test_nothing_to_measure(measured, options):
    with pytest.raises(ValueError, match="start at 1, --workers at 0"):
        measured(*options)


def test_no_folder_for_the_file(part):
    parser = argparse.ArgumentParser()
    part("loader").add_arguments(parser)
    with pytest.raises(FileNotFoundError, match="no folder"):
        part("loader").run(parser.parse_args(["--json", "no/such/folder/rows.json"]))


def test_stopwatch(part):
    class Work:
        def spin(self):
            return sum(range(20_000))

    watch, work = part("stopwatch").Stopwatch(), Work()
    plain = Work.spin
    with watch("all"), watch.around({"spin": (Work, "spin")}):
        assert work.spin() == work.spin() == 199_990_000
    assert Work.spin is plain
    assert 0 < watch.milliseconds["spin"] <= watch.milliseconds["all"]
    spent = watch.milliseconds["spin"]
    work.spin()
    assert watch.milliseconds["spin"] == spent
