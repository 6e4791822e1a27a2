"""The evaluator, fed with ground truth of the synthetic set: box, submission, metrics."""

import json
import logging
import math
import os
import signal

import pytest
import torch
from nuscenes.nuscenes import NuScenes
from truth_samples import feed, truth_of

from fsdbev.d2.structures import Instances
from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.evaluation import (
    NuScenesEvaluator,
    detection_evaluator as evaluator_module,
    nuscenes_truth,
    scoring,
)
from fsdbev.structures import NUSCENES_CLASSES, Boxes3D
from fsdbev.utils.atomic_write import atomic_write

VERSION = "v1.0-synth"


def index_of(root, split):
    return FrameIndex(root / "fsdbev" / VERSION / f"{split}.arrow")


@pytest.fixture(scope="module")
def index(synthetic_root):
    return index_of(synthetic_root, "synth_val")


@pytest.fixture(scope="module")
def tokens(index):
    return [index[row].sample_token for row in range(3)]


@pytest.fixture
def evaluator(synthetic_root, tmp_path):
    return NuScenesEvaluator(
        dataroot=str(synthetic_root), version=VERSION, split="synth_val", output_dir=str(tmp_path)
    )


@pytest.fixture
def truth(index):
    """Inputs and perfect outputs of the three samples of synth_val."""
    return [truth_of(index, row) for row in range(3)]


@pytest.fixture
def nuscenes_version(synthetic_root, tmp_path):
    """Writes the first validation sample as a version of nuScenes and returns the data root."""

    def write(version, scene_name, annotated=True):
        tables = {
            path.stem: json.loads(path.read_text())
            for path in (synthetic_root / VERSION).glob("*.json")
            if path.stem not in ("lidarseg", "splits", "synthetic")
        }
        scene = next(s for s in tables["scene"] if s["name"] == "scene-5001")
        token = scene["first_sample_token"]
        tables["scene"] = [{**scene, "name": scene_name, "nbr_samples": 1}]
        tables["sample"] = [{**s, "next": ""} for s in tables["sample"] if s["token"] == token]
        for name in ("sample_data", "sample_annotation"):
            records = [record for record in tables[name] if record["sample_token"] == token]
            tables[name] = [{**record, "prev": "", "next": ""} for record in records]
        if not annotated:
            tables["sample_annotation"] = tables["instance"] = []
        root = tmp_path / "data"
        (root / version).mkdir(parents=True)
        (root / "maps").symlink_to(synthetic_root / "maps")
        for name, records in tables.items():
            (root / version / f"{name}.json").write_text(json.dumps(records))
        return str(root)

    return write


def nothing(sample):
    empty = Instances((256, 704))
    empty.pred_boxes_3d = Boxes3D(torch.zeros(0, 9))
    empty.scores, empty.pred_classes = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    return sample, {"instances": empty}


def test_ground_truth_is_perfect(evaluator, truth, tmp_path, caplog):
    evaluator.reset()
    feed(evaluator, truth)
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        metrics = evaluator.evaluate()["nuscenes"]
    assert metrics["mAP"] == pytest.approx(1.0, abs=1e-9)
    for name in ("mATE", "mASE", "mAOE", "mAVE"):
        assert metrics[name] < 1e-3, name
    # Attributes follow from the speed, which cannot distinguish stopped from parked vehicles.
    assert metrics["NDS"] + 0.1 * metrics["mAAE"] > 0.999
    assert all(metrics[f"AP_{name}"] == pytest.approx(1.0) for name in NUSCENES_CLASSES.names)
    summary = json.loads((tmp_path / "metrics_summary.json").read_text())
    assert summary["nd_score"] == metrics["NDS"]
    assert summary["meta"] == json.loads((tmp_path / "results_nusc.json").read_text())["meta"]
    assert summary["meta"]["use_camera"] and not summary["meta"]["use_lidar"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "metrics_summary.json",
        "results_nusc.json",
    ]
    assert any("traffic_cone" in record.message for record in caplog.records)


def test_boxes_are_written_in_the_global_frame(evaluator, truth, index, tokens, synthetic_root):
    feed(evaluator, truth)
    evaluator.evaluate()
    results = json.loads(evaluator.submission_path.read_text())["results"]
    tables = NuScenes(VERSION, str(synthetic_root), verbose=False)
    assert list(results) == tokens
    attributes = []
    for row, boxes in enumerate(results.values()):
        objects = index.annotations(row)
        assert objects.has_points.all()  # else they would be missing in truth_of
        for box, token, attribute in zip(boxes, objects.tokens, objects.attributes, strict=True):
            record = tables.get("sample_annotation", token)
            assert box["translation"] == pytest.approx(record["translation"], abs=1e-4)
            assert box["size"] == pytest.approx(record["size"], rel=1e-3)
            velocity = tables.box_velocity(token)[:2].tolist()
            assert box["velocity"] == pytest.approx(velocity, abs=2e-3)
            if attribute != "vehicle.stopped":
                attributes.append(box["attribute_name"] == attribute)
    assert sum(attributes) >= 0.95 * len(attributes) > 20


def test_bev_augmentation_is_undone(evaluator, truth):
    """Predictions are in the augmented key ego frame; the evaluator transforms them back."""
    turn = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    turn[:3, :3] *= 1.05
    for sample, output in truth:
        sample["bev_aug"] = turn
        instances = output["instances"]
        instances.pred_boxes_3d = instances.pred_boxes_3d.transformed(turn)
    feed(evaluator, truth)
    metrics = evaluator.evaluate()["nuscenes"]
    assert metrics["mAP"] == pytest.approx(1.0)
    assert metrics["NDS"] + 0.1 * metrics["mAAE"] > 0.99


def test_no_predictions_score_zero(evaluator, truth, tmp_path, caplog):
    evaluator.official = True  # the devkit itself fails here
    feed(evaluator, [nothing(sample) for sample, _ in truth])
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        metrics = evaluator.evaluate()["nuscenes"]
    assert metrics["mAP"] == metrics["NDS"] == 0.0
    assert all(metrics[name] == 1.0 for name in ("mATE", "mASE", "mAOE", "mAVE", "mAAE"))
    assert json.loads((tmp_path / "metrics_summary.json").read_text())["nd_score"] == 0.0
    assert "no ground-truth boxes to evaluate in data set v1.0-synth, split synth" in caplog.text
    assert "does not compute the metrics: there are no predictions within" in caplog.text


def test_predictions_of_one_sample_only(evaluator, truth):
    """Samples without boxes are evaluated; a third of the objects are found."""
    feed(evaluator, [truth[0], nothing(truth[1][0]), nothing(truth[2][0])])
    metrics = evaluator.evaluate()["nuscenes"]
    assert 0.2 < metrics["mAP"] < 0.4


def test_missing_samples_are_an_error(evaluator, truth, tokens):
    feed(evaluator, truth[:1])
    message = f"2 of 3 samples of split 'synth_val'.*'{tokens[1]}', '{tokens[2]}'"
    with pytest.raises(ValueError, match=message):
        evaluator.evaluate()
    evaluator.reset()
    with pytest.raises(ValueError, match="3 of 3 samples"):
        evaluator.evaluate()


def test_samples_of_another_split_are_an_error(evaluator, truth, synthetic_root):
    train = index_of(synthetic_root, "synth_train")
    feed(evaluator, [*truth, truth_of(train, 0)])
    message = f"1 samples .* not in split 'synth_val'.*{train[0].sample_token}"
    with pytest.raises(ValueError, match=message):
        evaluator.evaluate()


def test_two_ranks_with_a_padded_sampler(evaluator, truth, tokens, tmp_path, monkeypatch):
    """Rank 1's loader starts again at the first sample: its first predictions are kept."""
    other = NuScenesEvaluator(
        dataroot=evaluator.dataroot, version=VERSION, split="synth_val", output_dir=str(tmp_path)
    )
    feed(evaluator, [*truth[:2], nothing(truth[0][0])])
    feed(other, [truth[2], nothing(truth[0][0])])
    sent = {}

    def gather(data, dst=0):
        sent.setdefault("ranks", []).append(data)
        return sent["ranks"][::-1] if len(sent["ranks"]) == 2 else []

    monkeypatch.setattr(evaluator_module.comm, "gather", gather)
    monkeypatch.setattr(evaluator_module.comm, "is_main_process", lambda: False)
    assert other.evaluate() == {}
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(evaluator_module.comm, "is_main_process", lambda: True)
    assert evaluator.evaluate()["nuscenes"]["mAP"] == pytest.approx(1.0)
    results = json.loads(evaluator.submission_path.read_text())["results"]
    assert list(results) == tokens


def test_tables_are_not_loaded_in_this_process(evaluator, truth, tokens, monkeypatch):
    loads = []
    original = nuscenes_truth.NuScenesTables

    def counted(*arguments):
        loads.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(nuscenes_truth, "NuScenesTables", counted)
    feed(evaluator, truth)
    first = evaluator.evaluate()
    assert evaluator.evaluate() == first
    assert evaluator.scored_detections().sample_tokens == tokens
    assert not loads
    evaluator.reset()
    assert evaluator.scored_detections() is None


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize(("official", "remedy"), [(True, "official=False"), ("auto", "alone")])
def test_a_killed_process_leaves_no_unfinished_file(
    evaluator, truth, monkeypatch, tmp_path, official, remedy
):
    def die(results, path):
        with atomic_write(path) as file:
            file.write(b"{")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(scoring, "write_submission", die)
    evaluator.official = official
    feed(evaluator, truth)
    with pytest.raises(
        ChildProcessError, match=f"'synth_val' could not be computed.*memory.*{remedy}"
    ):
        evaluator.evaluate()
    assert not list(tmp_path.iterdir())


def displaced(truth):
    torch.manual_seed(0)
    for _, output in truth:
        boxes = output["instances"].pred_boxes_3d.tensor
        boxes += 0.3 * torch.randn_like(boxes).abs()
    return truth


def test_official_metrics_are_logged_and_agree(evaluator, truth, caplog):
    feed(evaluator, displaced(truth))
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        expected = evaluator.evaluate()
        evaluator.official = True
        assert evaluator.evaluate() == expected
    assert 0.1 < expected["nuscenes"]["mAP"] < 0.99
    tables = [r.getMessage().split("\n", 1) for r in caplog.records if "NDS " in r.getMessage()]
    assert [", computed by the devkit" in head for head, _ in tables] == [False, True]
    assert tables[0][1] == tables[1][1]
    assert caplog.text.count("agree with the devkit's within 1e-06") == 1
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_metric_that_is_not_the_devkits_is_a_warning(evaluator, truth, caplog, monkeypatch):
    original = nuscenes_truth.DetectionEval.evaluate

    def changed(self):
        metrics, curves = original(self)
        metrics.add_label_ap("car", 0.5, 0.125)
        return metrics, curves

    monkeypatch.setattr(nuscenes_truth.DetectionEval, "evaluate", changed)
    feed(evaluator, truth)
    evaluator.official = True
    metrics = evaluator.evaluate()["nuscenes"]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert f"label_aps/car/0.5 is {metrics['AP_car']!r} here, but 0.125 by the devkit" in warnings
    assert any(w.startswith(f"mean_ap is {metrics['mAP']!r} here, but 0.97") for w in warnings)
    assert evaluator.evaluate()["nuscenes"] == metrics  # the devkit's are not returned


@pytest.mark.parametrize("official", [False, "auto"])
def test_the_devkit_only_runs_if_requested(evaluator, truth, monkeypatch, official):
    monkeypatch.delattr(nuscenes_truth, "DetectionEval")
    evaluator.official = official
    feed(evaluator, truth)
    assert evaluator.evaluate()["nuscenes"]["mAP"] == pytest.approx(1.0)


def test_one_sample_of_an_official_split(nuscenes_version, tmp_path, truth):
    """mini_train has eight scenes, of which this version has one, with one sample."""
    options = {"dataroot": nuscenes_version("v1.0-mini", "scene-0061"), "version": "v1.0-mini"}
    evaluator = NuScenesEvaluator(**options, split="mini_train", output_dir=str(tmp_path))
    feed(evaluator, truth[:1])
    metrics = evaluator.evaluate()["nuscenes"]
    assert metrics["mAP"] == pytest.approx(1.0)
    assert metrics["mAVE"] == 1.0  # velocities need more than one sample
    assert all(map(math.isfinite, metrics.values()))
    evaluator = NuScenesEvaluator(**options, split="mini_val", output_dir=str(tmp_path))
    feed(evaluator, truth[:1])
    with pytest.raises(ValueError, match=r"'mini_val' has no sample in v1.0-mini.*scene-0061"):
        evaluator.evaluate()


def test_without_annotations_only_the_submission_is_written(
    nuscenes_version, tmp_path, truth, caplog
):
    root, output = nuscenes_version("v1.0-test", "scene-0077", annotated=False), tmp_path / "output"
    evaluator = NuScenesEvaluator(
        dataroot=root, version="v1.0-test", split="test", output_dir=str(output)
    )
    feed(evaluator, truth[:1])
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        assert evaluator.evaluate() == {}
    assert [p.name for p in output.iterdir()] == ["results_nusc.json"]
    assert any("no annotations" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "val"}, "'val' belongs to a version ending in 'trainval'"),
        ({"unseen_objects": "hide"}, "unseen_objects must be 'ignore' or 'count', got 'hide'"),
        ({"official": "yes"}, "true, false or 'auto', got 'yes'"),
    ],
)
def test_wrong_options_are_errors(tmp_path, changes, message):
    options = {"dataroot": "data", "version": "v1.0-mini", "split": "mini_val"}
    with pytest.raises(ValueError, match=message):
        NuScenesEvaluator(**{**options, "output_dir": str(tmp_path), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"mini_val": ["scene-5001"]}', "splits.json: 'mini_val' is an official split"),
        ("{", "splits.json: is not JSON"),
    ],
)
def test_own_scenes_under_an_official_name_are_refused(tmp_path, text, message):
    (tmp_path / "v1.0-mini").mkdir()
    (tmp_path / "v1.0-mini/splits.json").write_text(text)
    options = {"dataroot": str(tmp_path), "version": "v1.0-mini", "output_dir": str(tmp_path)}
    with pytest.raises(ValueError, match=message):
        NuScenesEvaluator(**options, split="mini_val")
    NuScenesEvaluator(**options, split="mini_train" if text != "{" else "own")
