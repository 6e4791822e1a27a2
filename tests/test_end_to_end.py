"""Training from the command line: train, save, resume, evaluate, with one and two processes."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from fsdbev.engine import run

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "fsdbev_tiny_synthetic.py"
SMALLER = [
    "train.device=cpu",
    "dataloader.image_size=[64,176]",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "model.grid.cell=3.5",
    "train.checkpointer.period=1",
    "train.log_period=1",
    "train.report.samples=1",
]


@pytest.fixture(scope="module")
def train_net(synthetic_root):
    """Runs the training command with a smaller variant of the tiny config."""

    def train_net(output, *overrides, options=()):
        paths = [f"dataloader.dataroot={synthetic_root}", f"train.output_dir={output}"]
        run(["--config-file", str(CONFIG), *options, *paths, *SMALLER, *overrides])

    return train_net


@pytest.fixture(scope="module")
def trained(train_net, tmp_path_factory):
    """Output folder of two iterations. Shared: do not write to it."""
    output = tmp_path_factory.mktemp("trained")
    train_net(output, "train.max_iter=2")
    return output


def lines_with_losses(output):
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return [line for line in lines if "loss_distill" in line]


def submission(output):
    return json.loads((output / "results_nusc.json").read_text())


def test_files_of_a_training(trained):
    losses = lines_with_losses(trained)
    assert [line["iteration"] for line in losses] == [0, 1]
    assert all(line["total_loss"] > 0 for line in losses)
    checkpoint = torch.load(trained / "model_final.pth", weights_only=True)
    assert {"model", "ema", "iteration"} <= set(checkpoint)
    metrics = json.loads((trained / "evaluation.json").read_text())["nuscenes"]
    assert 0 <= metrics["mAP"] < 0.01 and 0 <= metrics["NDS"] <= 1
    found = submission(trained)
    assert len(found["results"]) == 3 and found["meta"]["use_camera"]
    assert (trained / "config.yaml").is_file()
    page = (trained / "report.html").read_text()
    assert f">{metrics['NDS']:.4f}<" in page and "after iteration 2 of training" in page
    assert "train.output_dir" in page and page.count("data:image/jpeg") > 0
    assert (trained / "curves.png").stat().st_size > 10_000


def test_resume(train_net, trained, tmp_path):
    output = shutil.copytree(trained, tmp_path / "resumed")
    train_net(output, "train.max_iter=3", "train.report.enabled=false", options=["--resume"])
    checkpoint = torch.load(output / "model_final.pth", weights_only=True)
    assert checkpoint["iteration"] == 2
    assert [line["iteration"] for line in lines_with_losses(output)] == [0, 1, 2]


def test_eval_only_gives_the_same_boxes_as_the_end_of_training(train_net, trained, tmp_path):
    weights = f"train.init_checkpoint={trained / 'model_final.pth'}"
    train_net(tmp_path, weights, options=["--eval-only"])
    after, separate = (submission(folder)["results"] for folder in (trained, tmp_path))
    assert after.keys() == separate.keys() and any(after.values())
    assert "model_final.pth" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "curves.png").exists()
    for token, boxes in after.items():
        for box, other in zip(boxes, separate[token], strict=True):
            assert box["detection_name"] == other["detection_name"]
            assert box["translation"] == pytest.approx(other["translation"], abs=1e-3)


@pytest.mark.slow
def test_two_processes_train_and_evaluate(train_net, tmp_path):
    overrides = ["train.max_iter=1", "train.report.enabled=false"]
    train_net(tmp_path, *overrides, options=["--num-gpus", "2"])
    assert json.loads((tmp_path / "evaluation.json").read_text())["nuscenes"]["NDS"] >= 0
    assert len(submission(tmp_path)["results"]) == 3
