"""The project's configs without its trainer: in Detectron2's training script and its plain loop.

The script tools/lazyconfig_train_net.py is not part of Detectron2's package: the environment
variable DETECTRON2_SOURCE names a checkout of its sources. Without Detectron2 the script runs on
the built-in under Detectron2's name.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fsdbev.d2 import BACKEND
from fsdbev.d2.checkpoint import DetectionCheckpointer
from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.d2.engine import SimpleTrainer, create_ddp_model, default_writers, hooks
from fsdbev.d2.evaluation import inference_on_dataset

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "fsdbev_tiny_synthetic.py"

BUILTIN_AS_DETECTRON2 = """
import importlib, sys
for name in ("checkpoint", "config", "engine", "evaluation", "utils"):
    sys.modules["detectron2." + name] = importlib.import_module("fsdbev.d2." + name)
sys.modules["detectron2.engine.defaults"] = sys.modules["detectron2.engine"]
"""


def overrides(data, output):
    """Returns overrides for two iterations on small images in one process on the CPU."""
    return [
        f"dataloader.dataroot={data}",
        f"train.output_dir={output}",
        "train.device=cpu",
        "train.max_iter=2",
        "train.log_period=1",
        "train.checkpointer.period=1",
        "dataloader.image_size=[64,176]",
        "model.grid.cell=3.5",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
    ]


def assert_trained(output):
    lines = map(json.loads, (output / "metrics.json").read_text().splitlines())
    losses = [line for line in lines if "total_loss" in line]
    assert len(losses) == 2
    assert {"loss_depth", "loss_foreground", "loss_distill", "task0.loss_heatmap"} <= set(losses[0])
    values = [value for line in losses for name, value in line.items() if "loss" in name]
    assert all(map(math.isfinite, values))
    assert (output / "last_checkpoint").read_text() == "model_final.pth"
    first, last = (
        torch.load(output / f"{name}.pth", weights_only=True)
        for name in ("model_0000000", "model_final")
    )
    assert last["iteration"] == last["trainer"]["iteration"] == 1
    changed = {k for k, v in last["model"].items() if not torch.equal(v, first["model"][k])}
    assert {name.split(".")[0] for name in changed} >= {"backbone", "depth_net", "head"}


@pytest.fixture
def run_script(tmp_path):
    """Runs Detectron2's script in ``tmp_path`` and returns its output."""
    source = os.environ.get("DETECTRON2_SOURCE")
    if not source:
        pytest.skip("DETECTRON2_SOURCE does not name a checkout of Detectron2")
    script = Path(source, "tools", "lazyconfig_train_net.py").resolve()
    if BACKEND == "builtin":
        (tmp_path / "path" / "detectron2").mkdir(parents=True)
        (tmp_path / "path" / "detectron2" / "__init__.py").write_text(BUILTIN_AS_DETECTRON2)
    path = os.pathsep.join([str(tmp_path / "path"), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "FSDBEV_D2": BACKEND, "CUDA_VISIBLE_DEVICES": ""}

    def run(*arguments):
        command = [sys.executable, str(script), "--config-file", str(CONFIG), *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, text=True, capture_output=True, timeout=300
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return run


def test_script_of_detectron2_trains_and_evaluates(run_script, synthetic_root, tmp_path):
    trained, evaluated = tmp_path / "trained", tmp_path / "evaluated"
    printed = run_script(*overrides(synthetic_root, trained))
    assert "copypaste: mAP,NDS" in printed
    assert_trained(trained)

    printed = run_script(
        "--eval-only",
        *overrides(synthetic_root, evaluated),
        f"train.init_checkpoint={trained / 'model_final.pth'}",
    )
    assert "copypaste: mAP,NDS" in printed
    submissions = [(folder / "results_nusc.json").read_text() for folder in (trained, evaluated)]
    assert submissions[0] == submissions[1]  # the checkpoint has the evaluated weights
    assert any(json.loads(submissions[0])["results"].values())
    assert not (evaluated / "metrics.json").exists()


def test_plain_parts_train_and_evaluate(synthetic_root, tmp_path):
    """The configs are complete: they train and evaluate without the project's engine."""
    cfg = LazyConfig.load(str(CONFIG))
    cfg = LazyConfig.apply_overrides(cfg, overrides(synthetic_root, tmp_path / "out"))
    train = cfg.train
    model = create_ddp_model(instantiate(cfg.model).to(train.device), **train.ddp)
    cfg.optimizer.params.model = model
    trainer = SimpleTrainer(model, instantiate(cfg.dataloader.train), instantiate(cfg.optimizer))
    checkpointer = DetectionCheckpointer(model, train.output_dir, trainer=trainer)
    results = []

    def evaluate():
        loader, evaluator = instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
        results.append(inference_on_dataset(model, loader, evaluator))
        return results[-1]

    trainer.register_hooks(
        [
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, **train.checkpointer),
            hooks.EvalHook(train.eval_period, evaluate),
            hooks.PeriodicWriter(
                default_writers(train.output_dir, train.max_iter), train.log_period
            ),
        ]
    )
    checkpointer.resume_or_load(train.init_checkpoint, resume=False)
    trainer.train(0, train.max_iter)
    assert_trained(tmp_path / "out")
    (metrics,) = results  # once, at the end
    assert 0 <= metrics["nuscenes"]["mAP"] <= metrics["nuscenes"]["NDS"] <= 1
    assert trainer.storage.latest()["nuscenes/NDS"] == (metrics["nuscenes"]["NDS"], 2)
