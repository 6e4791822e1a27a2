"""Results files of other programs: scored as by the devkit, with a notice of each deviation.

tests/bad_inputs/bad_results.py has the files that are refused."""

import copy
import json
import math
import re
import shutil
from functools import partial
from html import unescape
from pathlib import Path

import evaluate
import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.detection.utils import category_to_detection_name

from fsdbev.evaluation.nuscenes_truth import TableTruth
from fsdbev.evaluation.results_file import read_results
from fsdbev.evaluation.scoring import score_results, summary_differences
from fsdbev.report.writer import write_results_report
from fsdbev.structures import NUSCENES_CLASSES
from fsdbev.utils.folder_lock import locked_folder

#: Attributes that mmdet3d gives to objects at rest.
ATTRIBUTES = {
    **dict.fromkeys(("car", "truck", "trailer", "construction_vehicle"), "vehicle.parked"),
    "bus": "vehicle.stopped",
    "pedestrian": "pedestrian.standing",
    **dict.fromkeys(("bicycle", "motorcycle"), "cycle.without_rider"),
    **dict.fromkeys(("barrier", "traffic_cone"), ""),
}


@pytest.fixture(scope="module")
def nusc(synthetic_root):
    return NuScenes("v1.0-synth", str(synthetic_root), verbose=False)


def draw_results(nusc, scene="scene-5001"):
    """Returns displaced objects of a scene in the layout of mmdet3d's results_nusc.json, samples in
    another order than in the tables."""
    rng, results = np.random.default_rng(0), {}
    for sample in reversed(nusc.sample):
        if nusc.get("scene", sample["scene_token"])["name"] != scene:
            continue
        boxes = results[sample["token"]] = []
        for record in (nusc.get("sample_annotation", token) for token in sample["anns"]):
            name = category_to_detection_name(record["category_name"])
            if name is None:
                continue
            boxes.append(
                {
                    "sample_token": sample["token"],
                    "translation": (record["translation"] + rng.normal(0, 0.6, 3)).tolist(),
                    "size": (np.array(record["size"]) * rng.uniform(0.8, 1.2, 3)).tolist(),
                    "rotation": record["rotation"],
                    "velocity": rng.normal(0, 1, 2).tolist(),
                    "detection_name": name,
                    "detection_score": float(np.float32(rng.integers(1, 5) / 5)),  # equal ones
                    "attribute_name": ATTRIBUTES[name],
                }
            )
    return {"meta": {"use_camera": False, "use_lidar": True}, "results": results}


def with_deviations(content):
    """Returns a copy with deviations from the format that the devkit accepts."""
    content = copy.deepcopy(content)
    boxes = [box for boxes in content["results"].values() for box in boxes]
    for box in boxes[::5]:
        box["velocity"] = [math.nan, math.nan]
    boxes[1]["velocity"] = [0.5, math.nan]
    for box in boxes[::7]:
        box["rotation"] = [3 * value for value in box["rotation"]]
    cars = [box for box in boxes if box["detection_name"] == "car"]
    for box in cars[1:]:
        box["attribute_name"] = ""
    cars[0]["attribute_name"] = "pedestrian.moving"
    boxes[-1]["num_pts"] = 0
    for box in boxes[::2]:  # as the devkit's EvalBoxes.serialize writes them
        box |= {"ego_translation": [0.0, 0.0, 0.0], "num_pts": -1}
    boxes[4]["size"] = [1, 2, 3]
    content["results"]["of another split"] = ["anything"]
    return content


def read_and_score(path, **place):
    source = TableTruth(classes=NUSCENES_CLASSES, unseen_objects="count", **place)
    file = read_results(path, source)
    return file, score_results(file.boxes, source, file.meta)


def scored_as_by_the_devkit(nusc, content, folder, split):
    """Scores a file, compares all metrics with the devkit's; returns the summary and notices."""
    path = folder / "results_nusc.json"
    path.write_text(json.dumps(content))
    place = {"dataroot": nusc.dataroot, "version": nusc.version, "split": split}
    file, scored = read_and_score(path, **place)
    config = config_factory("detection_cvpr_2019")
    devkit = DetectionEval(nusc, config, str(path), split, str(folder / "devkit"), verbose=False)
    official = devkit.evaluate()[0].serialize()
    assert summary_differences(scored.summary, official, 1e-9) == {}
    assert scored.summary["meta"] == content["meta"]
    return scored.summary, file.notices


def test_a_file_of_mmdet3d_is_scored_as_by_the_devkit(nusc, tmp_path):
    content = draw_results(nusc)
    plain, notices = scored_as_by_the_devkit(nusc, content, tmp_path, "synth_val")
    assert 0.1 < plain["mean_ap"] < 0.99 and notices == []
    changed, notices = scored_as_by_the_devkit(
        nusc, with_deviations(content), tmp_path, "synth_val"
    )
    for error in ("vel_err", "attr_err"):
        assert changed["tp_errors"][error] != plain["tp_errors"][error]
    boxes = [box for boxes in content["results"].values() for box in boxes]
    cars = [box for box in boxes if box["detection_name"] == "car"]
    assert sorted(notice.partition("; first")[0] for notice in notices) == sorted(
        [
            f"{len(boxes[::5]) + 1} boxes: velocity is NaN; their matches do not count in the "
            "velocity error",
            f"{len(boxes[::7])} boxes: rotation is not a unit quaternion; its norm does not matter",
            f"{len(cars)} boxes: attribute_name is not one of the class and counts as wrong: car "
            f"with '' ({len(cars) - 1}), car with 'pedestrian.moving' (1)",
            "1 boxes: num_pts is 0; they do not count",
            "1 samples are not in split 'synth_val' and do not count",
        ]
    )
    first = list(content["results"].values())[-1][0]["sample_token"]  # in the order of the tables
    assert any(f"first: sample {first}, box " in notice for notice in notices)


def test_the_order_of_samples_decides_between_equal_scores(nusc, tmp_path):
    """In an official split that of the file, in another one that of the tables."""
    root = tmp_path / "data"
    mini = root / "v1.0-mini"
    shutil.copytree(Path(nusc.dataroot, nusc.version), mini)
    (root / "maps").symlink_to(Path(nusc.dataroot, "maps"))
    for name in ("lidarseg", "splits", "synthetic"):
        (mini / f"{name}.json").unlink()
    scenes = (mini / "scene.json").read_text()
    (mini / "scene.json").write_text(scenes.replace("scene-5001", "scene-0103"))
    official = NuScenes("v1.0-mini", str(root), verbose=False)
    content = draw_results(nusc)
    in_order = {**content, "results": dict(reversed(content["results"].items()))}
    found = [
        scored_as_by_the_devkit(tables, file, tmp_path, split)[0]["mean_ap"]
        for tables, split in ((nusc, "synth_val"), (official, "mini_val"))
        for file in (content, in_order)
    ]
    assert found[0] == found[1] == found[3] != found[2]
    # A sample of another split is refused here, by the devkit as well.
    content["results"]["xyz"] = []
    with pytest.raises(ValueError, match=r"1 samples .* not in split 'mini_val', first \['xyz'\]"):
        scored_as_by_the_devkit(official, content, tmp_path, "mini_val")


def run_tool(capsys, root, path, *options, split="synth_val"):
    """Runs the tool; returns its exit status and the lines that it prints."""
    place = ["--dataroot", str(root), "--version", "v1.0-synth", "--split", split]
    status = evaluate.main([str(path), *place, *map(str, options)])
    printed = capsys.readouterr()
    return status, (printed.out if status == 0 else printed.err).splitlines()


def test_the_tool_scores_and_reports(nusc, synthetic_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "write_results_report", partial(write_results_report, samples=1))
    path, output = tmp_path / "theirs.json", tmp_path / "output"
    path.write_text(json.dumps(with_deviations(draw_results(nusc))))
    status, lines = run_tool(capsys, synthetic_root, path, "--output", output)
    assert status == 0 and [line[:8] for line in lines[:6]] == 5 * ["notice: "] + ["class   "]
    summary = json.loads((output / "metrics_summary.json").read_text())
    numbers = f"mAP {summary['mean_ap']:.4f}, NDS {summary['nd_score']:.4f}"
    assert lines[-2] == f"nuScenes' devkit: {numbers}; all metrics agree within 1e-09"
    assert lines[-1] == str(output / "report.html")
    assert summary["meta"] == {"use_camera": False, "use_lidar": True}
    page = unescape((output / "report.html").read_text())
    assert "Evaluation of theirs.json" in page and '"use_lidar": true' in page
    assert page.count("data:image/jpeg") == 2 and "There is no picture" not in page
    assert "car with 'pedestrian.moving' (1)" in page
    (row,) = re.findall(r"mAP</th>(.*?)</tr>", page.partition("this page")[2], re.DOTALL)
    assert re.findall(r"[\d.]{5,}", row) == 2 * [f"{summary['mean_ap']:.6f}"]


def test_the_tool_needs_only_tables(nusc, tmp_path, capsys):
    root = tmp_path / "data"
    root.mkdir()
    for name in (nusc.version, "maps"):
        (root / name).symlink_to(Path(nusc.dataroot, name))
    path = tmp_path / "results.json"
    path.write_text(json.dumps(draw_results(nusc)))
    status, lines = run_tool(capsys, root, path, "--output", tmp_path / "report")
    assert status == 0 and "all metrics agree" in lines[-3]
    assert lines[-2].startswith("notice: the report has no pictures: ")
    page = (tmp_path / "report/report.html").read_text()
    assert "There are no pictures" in page and "data:image/jpeg" not in page


def test_without_annotations_the_file_is_checked(nusc, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(TableTruth, "truth", None)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(draw_results(nusc)))
    message = f"{path} is complete; split 'synth_val' has no annotations, so no metrics"
    assert run_tool(capsys, nusc.dataroot, path) == (0, [message])


def test_the_tool_refuses_a_folder_in_use(synthetic_root, tmp_path, capsys):
    with locked_folder(tmp_path, "wait"):
        status, lines = run_tool(capsys, synthetic_root, "no.json", "--output", tmp_path)
    assert status == 1 and lines[0].endswith("or choose another --output")


def test_the_tool_lists_all_problems(nusc, synthetic_root, tmp_path, capsys):
    content = draw_results(nusc)
    first, second, _ = content["results"].values()
    content["results"] = {box[0]["sample_token"]: box for box in (first, second)}
    second += [second[0]] * 500
    for box, name in zip(first, ["tram", "tram", "pole"]):
        box["detection_name"] = name
    del content["meta"], first[4]["velocity"]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    status, lines = run_tool(capsys, synthetic_root, path, "--output", tmp_path / "output")
    assert status == 1 and not list((tmp_path / "output").iterdir())
    assert lines[0] == f"error: {path} cannot be scored:"
    assert {re.sub("[;,] first.*", "", line) for line in lines[1:]} == {
        "- 1 of 3 samples of split 'synth_val' have no predictions",
        f"- 3 boxes: detection_name must be one of {list(NUSCENES_CLASSES.names)}: 'tram' (2), "
        "'pole' (1)",
        "- 1 boxes: it lacks ['velocity']",
        "- 1 samples: at most 500 boxes are allowed (keep those of highest score): "
        f"{len(second)} boxes (1)",
        "- it has no dict under 'meta'; add the modalities that were used",
    }
