import json
import logging
import math
import os
import signal

import pytest
import torch
from nuscenes.nuscenes import NuScenes

from fsdbev.d2.structures import Instances
from fsdbev.evaluation import NuScenesEvaluator, scoring
from fsdbev.evaluation import nuscenes_evaluator as evaluator_module
from fsdbev.structures import CLASS_NAMES, Boxes3D
from fsdbev.utils.atomic_write import atomic_write


@pytest.fixture(scope="module")
def tables(tiny_root):
    return NuScenes("v1.0-tiny", str(tiny_root), verbose=False)


@pytest.fixture
def evaluator(tiny_root, tmp_path):
    return NuScenesEvaluator(
        dataroot=str(tiny_root), version="v1.0-tiny", split="tiny_val", output_dir=str(tmp_path)
    )


@pytest.fixture
def truth(tables, truth_of):
    """Inputs and perfect outputs of the three samples of tiny_val."""
    return [truth_of(tables, f"two_{i}") for i in range(3)]


def nothing(sample):
    empty = Instances((256, 704))
    empty.pred_boxes_3d = Boxes3D(torch.zeros(0, 9))
    empty.scores, empty.pred_classes = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    return sample, {"instances": empty}


def feed(evaluator, pairs):
    for sample, output in pairs:
        evaluator.process([sample], [output])


def test_ground_truth_is_perfect(evaluator, truth, tmp_path, caplog):
    evaluator.reset()
    feed(evaluator, truth)
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        metrics = evaluator.evaluate()["nuscenes"]

    assert metrics["mAP"] == pytest.approx(1.0, abs=1e-9)
    assert metrics["NDS"] > 0.99
    for name in ("mATE", "mASE", "mAOE", "mAVE", "mAAE"):
        assert metrics[name] < 0.02, name
    assert all(metrics[f"AP_{name}"] == pytest.approx(1.0) for name in CLASS_NAMES)
    summary = json.loads((tmp_path / "metrics_summary.json").read_text())
    assert summary["nd_score"] == metrics["NDS"]
    assert summary["meta"] == json.loads((tmp_path / "results_nusc.json").read_text())["meta"]
    assert summary["meta"]["use_camera"] and not summary["meta"]["use_lidar"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "metrics_summary.json",
        "results_nusc.json",
    ]
    assert any("traffic_cone" in record.message for record in caplog.records)


def test_boxes_reach_the_file_in_the_global_frame(evaluator, truth, tables, tmp_path):
    feed(evaluator, truth)
    evaluator.evaluate()
    results = json.loads((tmp_path / "results_nusc.json").read_text())["results"]
    assert list(results) == ["two_0", "two_1", "two_2"]
    for token, boxes in results.items():
        annotations = tables.get("sample", token)["anns"]
        for box, annotation in zip(boxes, annotations, strict=True):
            record = tables.get("sample_annotation", annotation)
            assert box["translation"] == pytest.approx(record["translation"], abs=1e-4)
            assert box["size"] == pytest.approx(record["size"], rel=1e-3)
            assert box["velocity"] == pytest.approx(
                tables.box_velocity(annotation)[:2].tolist(), abs=2e-3
            )
            assert [box["attribute_name"]] == (record["attribute_tokens"] or [""])


def test_bev_augmentation_is_undone(evaluator, truth):
    """Predictions are in key ego as seen through bev_aug: the evaluator maps them back."""
    turn = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    turn[:3, :3] *= 1.05
    for sample, output in truth:
        sample["bev_aug"] = turn
        instances = output["instances"]
        instances.pred_boxes_3d = instances.pred_boxes_3d.transformed(turn)
    feed(evaluator, truth)
    metrics = evaluator.evaluate()["nuscenes"]
    assert metrics["mAP"] == pytest.approx(1.0)
    assert metrics["NDS"] > 0.99


def test_no_predictions_score_zero(evaluator, truth, tmp_path, caplog):
    evaluator.official = True  # the devkit itself fails here
    feed(evaluator, [nothing(sample) for sample, _ in truth])
    metrics = evaluator.evaluate()["nuscenes"]
    assert metrics["mAP"] == metrics["NDS"] == 0.0
    assert all(metrics[name] == 1.0 for name in ("mATE", "mASE", "mAOE", "mAVE", "mAAE"))
    assert json.loads((tmp_path / "metrics_summary.json").read_text())["nd_score"] == 0.0
    assert "no predicted or no true boxes that count in split tiny_val" in caplog.text


def test_predictions_of_one_sample_only(evaluator, truth):
    """Samples without boxes count; a third of the objects are found."""
    feed(evaluator, [truth[0], nothing(truth[1][0]), nothing(truth[2][0])])
    metrics = evaluator.evaluate()["nuscenes"]
    assert 0.2 < metrics["mAP"] < 0.4


def test_missing_samples_are_an_error(evaluator, truth):
    feed(evaluator, truth[:1])
    with pytest.raises(ValueError, match=r"2 of 3 samples of split 'tiny_val'.*'two_1', 'two_2'"):
        evaluator.evaluate()
    evaluator.reset()
    with pytest.raises(ValueError, match="3 of 3 samples"):
        evaluator.evaluate()


def test_samples_of_another_split_are_an_error(evaluator, truth, tables, truth_of):
    feed(evaluator, [*truth, truth_of(tables, "one_0")])
    with pytest.raises(ValueError, match=r"1 samples .* not in split 'tiny_val'.*one_0"):
        evaluator.evaluate()


def test_of_a_sample_seen_twice_the_first_counts(evaluator, truth):
    feed(evaluator, [*truth, nothing(truth[0][0])])
    assert evaluator.evaluate()["nuscenes"]["mAP"] == pytest.approx(1.0)


def test_two_ranks_with_a_padded_sampler(evaluator, truth, tiny_root, tmp_path, monkeypatch):
    """Rank 1's loader starts again at the first sample to fill its share."""
    other = NuScenesEvaluator(
        dataroot=str(tiny_root), version="v1.0-tiny", split="tiny_val", output_dir=str(tmp_path)
    )
    feed(evaluator, truth[:2])
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
    assert list(results) == ["two_0", "two_1", "two_2"]


def test_tables_are_not_loaded_in_this_process(evaluator, truth, monkeypatch):
    loads = []
    real = scoring.NuScenes

    def counted(**kwargs):
        loads.append(kwargs)
        return real(**kwargs)

    monkeypatch.setattr(scoring, "NuScenes", counted)
    feed(evaluator, truth)
    first = evaluator.evaluate()
    assert evaluator.evaluate() == first
    assert evaluator.scored_detections().sample_tokens == ["two_0", "two_1", "two_2"]
    assert not loads
    evaluator.reset()
    assert evaluator.scored_detections() is None


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize(("official", "remedy"), [(True, "official=False"), ("auto", "alone")])
def test_nothing_half_written_stays_of_a_process_that_was_killed(
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
        ChildProcessError, match=f"'tiny_val' could not be computed.*memory.*{remedy}"
    ):
        evaluator.evaluate()
    assert not list(tmp_path.iterdir())


def off_the_truth(truth):
    torch.manual_seed(0)
    for _, output in truth:
        output["instances"].pred_boxes_3d.tensor += 0.3 * torch.randn(20, 9).abs()
    return truth


def test_official_metrics_are_logged_and_agree(evaluator, truth, caplog):
    feed(evaluator, off_the_truth(truth))
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        expected = evaluator.evaluate()
        evaluator.official = True
        assert evaluator.evaluate() == expected
    assert 0.1 < expected["nuscenes"]["mAP"] < 0.99
    tables = [r.getMessage().split("\n", 1) for r in caplog.records if "NDS " in r.getMessage()]
    assert [", computed by the devkit" in head for head, _ in tables] == [False, True]
    assert tables[0][1] == tables[1][1]
    assert caplog.text.count("agree with these within 1e-06") == 1
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_metric_that_is_not_the_devkits_is_a_warning(evaluator, truth, caplog, monkeypatch):
    real = scoring.DetectionEval.evaluate

    def other(self):
        metrics, curves = real(self)
        metrics.add_label_ap("car", 0.5, 0.125)
        return metrics, curves

    monkeypatch.setattr(scoring.DetectionEval, "evaluate", other)
    feed(evaluator, truth)
    evaluator.official = True
    metrics = evaluator.evaluate()["nuscenes"]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert f"label_aps/car/0.5 is {metrics['AP_car']!r} here, but 0.125 by the devkit" in warnings
    assert any(w.startswith(f"mean_ap is {metrics['mAP']!r} here, but 0.97") for w in warnings)
    assert evaluator.evaluate()["nuscenes"] == metrics  # ours are what is used


@pytest.mark.parametrize("official", [False, "auto"])
def test_the_devkit_does_not_run_unasked(evaluator, truth, monkeypatch, official):
    monkeypatch.delattr(scoring, "DetectionEval")
    evaluator.official = official
    feed(evaluator, truth)
    assert evaluator.evaluate()["nuscenes"]["mAP"] == pytest.approx(1.0)


def test_one_sample_of_an_official_split(tiny_root, tmp_path, truth_of):
    """mini_train names eight scenes, of which this version holds one with one sample."""
    tables = NuScenes("v1.0-mini", str(tiny_root), verbose=False)
    evaluator = NuScenesEvaluator(
        dataroot=str(tiny_root), version="v1.0-mini", split="mini_train", output_dir=str(tmp_path)
    )
    feed(evaluator, [truth_of(tables, "scene-0061_0")])
    metrics = evaluator.evaluate()["nuscenes"]
    assert metrics["mAP"] == pytest.approx(1.0)
    assert metrics["mAVE"] == 1.0  # one sample alone has no true velocity
    assert all(map(math.isfinite, metrics.values()))


def test_split_without_a_scene_here(tiny_root, tmp_path, truth):
    evaluator = NuScenesEvaluator(
        dataroot=str(tiny_root), version="v1.0-mini", split="mini_val", output_dir=str(tmp_path)
    )
    feed(evaluator, truth)
    with pytest.raises(ValueError, match=r"'mini_val' has no sample in v1.0-mini.*scene-0061"):
        evaluator.evaluate()


def test_without_annotations_only_the_submission_is_written(tiny_root, tmp_path, truth, caplog):
    evaluator = NuScenesEvaluator(
        dataroot=str(tiny_root), version="v1.0-test", split="test", output_dir=str(tmp_path)
    )
    pairs = [({**truth[i][0], "sample_token": f"scene-0077_{i}"}, truth[i][1]) for i in range(2)]
    feed(evaluator, pairs)
    with caplog.at_level(logging.INFO, logger="fsdbev"):
        assert evaluator.evaluate() == {}
    assert [p.name for p in tmp_path.iterdir()] == ["results_nusc.json"]
    assert any("no annotations" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "val"}, "'val' belongs to a version ending in 'trainval'"),
        ({"class_names": ("car", "horse")}, "'horse'"),
        ({"official": "yes"}, "true, false or 'auto', got 'yes'"),
    ],
)
def test_wrong_options_are_errors(tmp_path, changes, message):
    options = {"dataroot": "data", "version": "v1.0-mini", "split": "mini_val"}
    with pytest.raises(ValueError, match=message):
        NuScenesEvaluator(**{**options, "output_dir": str(tmp_path), **changes})
