"""The main job by its command line: train, save, resume, evaluate, in one and in two processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def trained(train_net, synthetic_root, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    train_net(synthetic_root, output, "train.max_iter=2")
    return output


def test_two_steps_leave_metrics_checkpoint_and_submission(trained):
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    losses = [line for line in lines if "loss_distill" in line]
    assert [line["iteration"] for line in losses] == [0, 1]
    assert all(line["total_loss"] > 0 for line in losses)
    checkpoint = torch.load(trained / "model_final.pth", weights_only=True)
    assert {"model", "ema", "iteration"} <= set(checkpoint)
    metrics = json.loads((trained / "evaluation.json").read_text())["nuscenes"]
    assert 0 <= metrics["mAP"] < 0.01 and 0 <= metrics["NDS"] <= 1
    submission = json.loads((trained / "results_nusc.json").read_text())
    assert len(submission["results"]) == 3 and submission["meta"]["use_camera"]
    assert (trained / "config.yaml").is_file()
    page = (trained / "report.html").read_text()
    assert f">{metrics['NDS']:.4f}<" in page and "after iteration 2 of training" in page
    assert "train.output_dir" in page and page.count("data:image/jpeg") > 0
    assert (trained / "curves.png").stat().st_size > 10_000


def test_resume_goes_on(train_net, trained, synthetic_root):
    train_net(synthetic_root, trained, "train.max_iter=3", options=["--resume"])
    checkpoint = torch.load(trained / "model_final.pth", weights_only=True)
    assert checkpoint["iteration"] == 2
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "loss_distill" in line] == [0, 1, 2]


def test_eval_only_gives_the_same_boxes_as_the_end_of_training(train_net, synthetic_root, tmp_path):
    train_net(synthetic_root, tmp_path / "train", "train.max_iter=1")
    train_net(
        synthetic_root,
        tmp_path / "evaluation",
        f"train.init_checkpoint={tmp_path / 'train' / 'model_final.pth'}",
        options=["--eval-only"],
    )
    after, alone = (
        json.loads((tmp_path / name / "results_nusc.json").read_text())["results"]
        for name in ("train", "evaluation")
    )
    assert after.keys() == alone.keys() and any(after.values())
    assert "model_final.pth" in (tmp_path / "evaluation" / "report.html").read_text()
    assert not (tmp_path / "evaluation" / "curves.png").exists()
    for token, boxes in after.items():
        assert len(boxes) == len(alone[token])
        for box, other in zip(boxes, alone[token], strict=True):
            assert box["detection_name"] == other["detection_name"]
            assert box["translation"] == pytest.approx(other["translation"], abs=1e-3)


def test_two_processes_train_and_evaluate(train_net, synthetic_root, tmp_path):
    overrides = ["train.max_iter=2", "train.device=cpu"]
    train_net(synthetic_root, tmp_path, *overrides, options=["--num-gpus", "2"])
    assert json.loads((tmp_path / "evaluation.json").read_text())["nuscenes"]["NDS"] >= 0
    submission = json.loads((tmp_path / "results_nusc.json").read_text())
    assert len(submission["results"]) == 3


def test_unknown_override_names_the_nearest_key():
    command = [
        sys.executable,
        str(ROOT / "tools" / "train_net.py"),
        "--config-file",
        str(ROOT / "configs" / "fsdbev_tiny_synthetic.py"),
        "train.max_iters=2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "train.max_iter" in done.stderr and "Traceback" not in done.stderr
