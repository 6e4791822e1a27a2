"""curves.png, and the scalars of a training in TensorBoard and Weights & Biases."""

import json
import logging
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsdbev.engine import Trainer, run
from fsdbev.engine.hooks import curves
from fsdbev.engine.hooks.curves import read_metrics

CONFIG = Path(__file__).parents[1] / "toy_config.py"


def train(cfg, *, resume=False):
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    return trainer.train()


@pytest.fixture
def drawn(monkeypatch):
    """Collects the records instead of drawing them."""
    records = []
    monkeypatch.setattr(curves, "draw_curves", lambda record, folder: records.append(record))
    return records


def test_a_training_leaves_its_curves(toy_config):
    cfg = toy_config("train.max_iter=3")
    train(cfg)
    folder = Path(cfg.train.output_dir)
    picture = np.asarray(Image.open(folder / "curves.png"))
    assert picture.ndim == 3 and picture.std() > 5
    assert not list(folder.glob("*.tmp"))


def test_curves_are_drawn_at_each_evaluation_at_the_end_and_on_resume(toy_config, drawn):
    # The writers have another period than the evaluation.
    options = ("train.eval_period=3", "train.log_period=2", "train.checkpointer.period=3")
    train(toy_config(*options, "train.max_iter=6"))
    assert [sorted(record["toy/error"]) for record in drawn] == [[2], [2, 6]]
    drawn.clear()
    train(toy_config(*options, "train.max_iter=8"), resume=True)
    assert [sorted(record["toy/error"]) for record in drawn] == [[2, 6], [2, 6, 8]]
    assert sorted(drawn[-1]["total_loss"]) == [1, 3, 5, 7]


def test_errors_of_the_drawing_do_not_stop_a_training(toy_config, monkeypatch, caplog):
    def fail(record, folder):
        raise RuntimeError("no picture")

    monkeypatch.setattr(curves, "draw_curves", fail)
    results = train(toy_config("train.max_iter=2"))
    assert results["toy"]["count"] == 5
    errors = [r for r in caplog.records if "could not be drawn" in r.getMessage()]
    assert len(errors) == 1 and errors[0].exc_info and errors[0].levelno == logging.ERROR


def test_the_last_line_of_an_iteration_is_used(tmp_path):
    lines = [
        {"iteration": 1, "lr": 0.1, "loss_a": 3.0},
        {"iteration": 3, "lr": 0.1, "loss_a": 2.0},
        {"iteration": 3, "lr": 0.2, "loss_a": float("nan")},
    ]
    file = tmp_path / "metrics.json"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"iteration": 5, "l')
    assert read_metrics(str(file)) == {"lr": {1: 0.1, 3: 0.2}, "loss_a": {1: 3.0, 3: 2.0}}
    assert read_metrics(str(tmp_path / "none.json")) == {}


def test_tensorboard_gets_losses_rate_and_metrics(toy_config):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    cfg = toy_config("train.max_iter=4", "train.eval_period=2")
    train(cfg)
    events = accumulator.EventAccumulator(cfg.train.output_dir)
    events.Reload()
    steps = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for tag in ("total_loss", "loss_main", "loss_small", "lr", "grad_norm"):
        assert steps[tag] == [0, 1, 2, 3]
    assert steps["toy/error"] == [1, 4]


class Wandb(types.ModuleType):
    """Fake of the package's used API that records its calls."""

    def __init__(self):
        super().__init__("wandb")
        self.runs = []

    def init(self, **options):
        self.runs.append(types.SimpleNamespace(options=options, lines=[], ended=False))
        run = self.runs[-1]
        run.id = options["id"] or f"run{len(self.runs)}"
        run.log = lambda scalars, step: run.lines.append((step, scalars))
        run.finish = lambda: setattr(run, "ended", True)
        return run


@pytest.fixture
def wandb(monkeypatch):
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


WANTED = ("train.wandb.enabled=true", "train.wandb.mode=offline", "train.wandb.project=toys")


def test_wandb_gets_every_scalar_in_order(toy_config, wandb):
    cfg = toy_config(*WANTED, "train.max_iter=4", "train.eval_period=2")
    train(cfg)
    (run,) = wandb.runs
    assert run.ended
    assert run.options["project"] == "toys" and run.options["mode"] == "offline"
    assert run.options["name"] == "output" and run.options["dir"] == cfg.train.output_dir
    steps = [step for step, _ in run.lines]
    assert steps == sorted(set(steps)) == [0, 1, 2, 3, 4]
    lines = dict(run.lines)
    assert {"total_loss", "loss_main", "lr", "grad_norm"} <= lines[0].keys()
    assert "toy/error" in lines[1] and "toy/error" in lines[4]


def test_a_resumed_training_continues_its_wandb_run(toy_config, wandb):
    (Path(toy_config().train.output_dir)).mkdir()
    (Path(toy_config().train.output_dir) / "config.yaml").write_text("train: {max_iter: 2}\n")
    train(toy_config(*WANTED, "train.max_iter=2"))
    train(toy_config(*WANTED, "train.max_iter=4", "train.wandb.name=other"), resume=True)
    first, second = wandb.runs
    assert first.options["id"] is None and second.options["id"] == first.id == "run1"
    assert second.options["resume"] == "allow" and second.options["name"] == "other"
    assert first.options["config"] == {"train": {"max_iter": 2}}
    assert [step for step, _ in second.lines] == [2, 3, 4]


def test_wandb_is_only_used_if_enabled(toy_config, wandb):
    cfg = toy_config("train.max_iter=1")
    train(cfg)
    del cfg.train["wandb"]  # a config of a version without this option
    train(cfg)
    assert not wandb.runs


@pytest.mark.parametrize("module", [None, types.ModuleType("wandb")], ids=["missing", "folder"])
def test_missing_wandb_is_an_error_before_training(
    toy_config, monkeypatch, capsys, tmp_path, module
):
    # With None the import fails; a folder "wandb" is imported as an empty module.
    monkeypatch.setitem(sys.modules, "wandb", module)
    with pytest.raises(ValueError, match="pip install wandb"):
        Trainer(toy_config(*WANTED))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        run(["--config-file", str(CONFIG), "train.wandb.enabled=true"])
    assert "pip install wandb" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
